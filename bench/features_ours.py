"""Bowerbird's side of bench.features: Parquet columns to slots, the native engine, features of each exposure."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.features_answers import Answers, Sequences
from bench.features_log import CLICK, EXPOSURE
from bench.features_plan import SEQUENCE, compiled
from bench.features_task import Outcome, Task
from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, StateOptions, build_engine
from bowerbird.plan.spec import Plan

BATCH = 1 << 17


def engine_of(plan: Plan, threads: int) -> NativeEngine:
    """Return an empty engine with so many threads."""
    return build_engine(plan, StateOptions(threads=threads))


class Feeder:
    """Applies and reads a log in batches; ``kernel`` counts the seconds spent inside the engine."""

    def __init__(self, plan: Plan, threads: int) -> None:
        self.plan = plan
        self.engine = engine_of(plan, threads)
        self.kernel = 0.0
        self._encoder = Encoder(plan)
        kinds = {EXPOSURE: "exposure", CLICK: "click"}
        self._types = np.array([plan.type_index(kinds[kind]) for kind in sorted(kinds)], dtype=np.int32)

    def catalogue(self, items: pa.Table) -> None:
        """Apply the items' attributes."""
        slots = self._encoder.encode_table("items", items)
        types = np.full(len(items), self.plan.type_index("items"), dtype=np.int32)
        self.engine.apply(RecordBatch(types, np.zeros(len(items), dtype=np.int64), slots))

    def encoded(self, batch: pa.RecordBatch, lsn: int) -> tuple[RecordBatch, ReadBatch]:
        """Return events from ``lsn`` on as records, and the reads of their exposures."""
        slots = self._encoder.encode_table("exposure", pa.table(batch))
        kind, times = batch["kind"].to_numpy(), batch["time"].to_numpy()
        shown = np.flatnonzero(kind == EXPOSURE)
        reads = ReadBatch(shown + lsn, times[shown], np.take(slots, shown, axis=1))
        return RecordBatch(self._types[kind], times, slots), reads

    def events(self, batch: pa.RecordBatch) -> tuple[ReadBatch, FeatureBlock]:
        """Apply events; return the reads of their exposures and the features, one row per exposure."""
        records, reads = self.encoded(batch, self.engine.lsn)
        started = time.perf_counter()
        block = self.engine.replay(records, reads)
        self.kernel += time.perf_counter() - started
        return reads, block


def run(task: Task) -> Outcome:
    """Answer the task from its files, the whole log at once; no state is kept, since peers keep none."""
    started = time.perf_counter()
    feeder = Feeder(compiled(task.features), task.threads)
    feeder.catalogue(pq.read_table(task.shape.catalogue))
    bulk = feeder.engine.bulk(keep=False)
    times: list[np.ndarray] = []
    for batch in pq.ParquetFile(task.shape.log).iter_batches(BATCH):
        records, reads = feeder.encoded(batch, bulk.lsn)
        began = time.perf_counter()
        bulk.add(records, reads)
        feeder.kernel += time.perf_counter() - began
        if task.take is not None:
            times.append(reads.times)
    began = time.perf_counter()
    t0 = time.perf_counter(); 
    import sys; print("parquet+encode+add", t0 - started, "add", feeder.kernel, "MB", bulk.memory/1e6, file=sys.stderr)
    bulk.run()
    t1 = time.perf_counter(); print("run", t1 - t0, file=sys.stderr)
    for block in bulk.blocks(BATCH):
        if task.take is not None:
            at = times.pop(0)
            task.take(Answers(at, block.numbers, _sequences(block)))
    t2 = time.perf_counter(); print("emit", t2 - t1, file=sys.stderr)
    feeder.kernel += time.perf_counter() - began
    return Outcome(time.perf_counter() - started, feeder.kernel)


def _sequences(block: FeatureBlock) -> Sequences | None:
    if SEQUENCE not in block.sequences:
        return None
    ragged = block.sequences[SEQUENCE]
    item, category = ragged.fields.values()
    return Sequences(ragged.offsets, item.astype(np.uint64), category.astype(np.uint64), ragged.age)
