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

    def events(self, batch: pa.RecordBatch) -> tuple[ReadBatch, FeatureBlock]:
        """Apply events; return the reads of their exposures and the features, one row per exposure."""
        slots = self._encoder.encode_table("exposure", pa.table(batch))
        kind, times = batch["kind"].to_numpy(), batch["time"].to_numpy()
        shown = np.flatnonzero(kind == EXPOSURE)
        reads = ReadBatch(shown + self.engine.lsn, times[shown], np.ascontiguousarray(slots[:, shown]))
        records = RecordBatch(self._types[kind], times, slots)
        started = time.perf_counter()
        block = self.engine.replay(records, reads)
        self.kernel += time.perf_counter() - started
        return reads, block


def run(task: Task) -> Outcome:
    """Answer the task from its files."""
    started = time.perf_counter()
    feeder = Feeder(compiled(task.features), task.threads)
    feeder.catalogue(pq.read_table(task.shape.catalogue))
    for batch in pq.ParquetFile(task.shape.log).iter_batches(BATCH):
        reads, block = feeder.events(batch)
        if task.take is not None:
            task.take(Answers(reads.times, block.numbers, _sequences(block)))
    return Outcome(time.perf_counter() - started, feeder.kernel)


def _sequences(block: FeatureBlock) -> Sequences | None:
    if SEQUENCE not in block.sequences:
        return None
    ragged = block.sequences[SEQUENCE]
    item, category = ragged.fields.values()
    return Sequences(ragged.offsets, item.astype(np.uint64), category.astype(np.uint64), ragged.age)
