"""What a feature costs: its state after the whole log, and its time per event and per read, measured alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from bowerbird.declare.workspace import Workspace
from bowerbird.durable import write_atomically
from bowerbird.errors import InputError
from bowerbird.log.reader import LogReader
from bowerbird.monitoring.records import join, span
from bowerbird.monitoring.restrict import features_only
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots, Times
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, build_engine
from bowerbird.plan.spec import Plan

COSTS_FILE = "feature-costs.json"
_CHUNKS = 8
_MOST_READS = 4_096
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class FeatureCost(msgspec.Struct, frozen=True):
    """Microseconds that a feature alone adds to applying one log record, and to reading one candidate.

    Medians over eight chunks of the sample, less what a plan without features takes. Features that share an
    aggregate pay for it once, so that the sum over features is more than the plan costs.
    """

    event_us: float
    read_us: float


class StateSize(msgspec.Struct, frozen=True):
    """Keys and bytes of state; ``bytes`` of a family are shared by its aggregates."""

    keys: int
    bytes: int


class Costs(msgspec.Struct, frozen=True):
    """What a measurement found: by feature, by key family, by aggregate (fingerprint; where the engine tells).

    ``records`` is the log's size at the time, ``timed`` how many of its last records were timed; ``whole`` is the
    whole plan's cost.
    """

    plan: str
    created: str
    records: int
    timed: int
    features: dict[str, FeatureCost]
    families: dict[str, StateSize]
    aggregates: dict[str, int]
    tables: dict[str, int]
    whole: FeatureCost


def measure_costs(
    workspace: Workspace, plan: Plan, records: int = 200_000, progress: Progress = lambda done, total: None
) -> Costs:
    """Replay the log for the state's size, then time each feature alone over its last ``records`` records.

    Raises InputError on an empty log.
    """
    reader = LogReader(workspace)
    if reader.size == 0:
        raise InputError("The log is empty.", "Run `bowerbird ingest` first.")
    total = reader.size + len(plan.features)
    usage = _replayed(reader, plan, lambda done: progress(done, total)).usage()
    sample = _Sample(reader, plan, records)
    nothing = sample.time([])
    costs = {}
    for done, feature in enumerate(plan.features, 1):
        costs[feature.name] = _less(sample.time([feature.name]), nothing)
        progress(reader.size + done, total)
    families = {name: StateSize(usage.family_keys[name], usage.family_bytes[name]) for name in usage.family_bytes}
    return Costs(
        plan.fingerprint,
        datetime.now(UTC).isoformat(timespec="seconds"),
        reader.size,
        sample.timed,
        costs,
        families,
        dict(getattr(usage, "aggregate_bytes", {})),
        dict(usage.table_bytes),
        sample.time([feature.name for feature in plan.features]),
    )


def costs_file(workspace: Workspace) -> Path:
    """Return where the last measurement is kept."""
    return workspace.reports_folder / COSTS_FILE


def write_costs(workspace: Workspace, costs: Costs) -> None:
    """Keep a measurement for later looks at the catalogue."""
    workspace.reports_folder.mkdir(parents=True, exist_ok=True)
    write_atomically(costs_file(workspace), msgspec.json.format(msgspec.json.encode(costs)))


def read_costs(workspace: Workspace) -> Costs | None:
    """Return the last measurement; None where there is none that can be read."""
    try:
        return msgspec.json.decode(costs_file(workspace).read_bytes(), type=Costs)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def _replayed(reader: LogReader, plan: Plan, progress: Callable[[int], None]) -> NativeEngine:
    engine, encoder = build_engine(plan), Encoder(plan)
    for batch in reader.batches(plan, encoder):
        engine.apply(batch.records)
        progress(batch.first_lsn + len(batch.records))
    return engine


def _less(cost: FeatureCost, nothing: FeatureCost) -> FeatureCost:
    return FeatureCost(max(0.0, cost.event_us - nothing.event_us), max(0.0, cost.read_us - nothing.read_us))


class _Sample:
    """The log's last records, encoded once: the first half warms an engine's state up, the second is timed."""

    def __init__(self, reader: LogReader, plan: Plan, records: int) -> None:
        self._plan = plan
        encoder = Encoder(plan)
        first = max(0, reader.size - records)
        self._nothing = join([], len(plan.slots)).records
        batches = [batch.records for batch in reader.batches(plan, encoder, first=first)]
        chunks = [chunk for batch in batches for chunk in _cut(batch, max(1, records // (2 * _CHUNKS)))]
        middle = len(chunks) // 2
        self._warming, self._chunks = chunks[:middle], chunks[middle:]
        self.timed = sum(len(chunk) for chunk in self._chunks)
        self._reads = self._exposures(plan)

    def time(self, names: Sequence[str]) -> FeatureCost:
        """Return what some features take."""
        engine = build_engine(features_only(self._plan, names))
        for chunk in self._warming:
            engine.apply(chunk)
        applying = [_seconds(lambda chunk=chunk: engine.apply(chunk)) / len(chunk) for chunk in self._chunks]  # type: ignore[misc]
        times, slots = self._reads
        if not len(times):
            return FeatureCost(statistics.median(applying) * 1e6, 0.0)
        reads = ReadBatch(np.full(len(times), engine.lsn, np.int64), times, slots)
        reading = [_seconds(lambda: engine.replay(self._nothing, reads)) / len(times) for _ in range(_CHUNKS)]
        return FeatureCost(statistics.median(applying) * 1e6, statistics.median(reading) * 1e6)

    def _exposures(self, plan: Plan) -> tuple[Times, Slots]:
        """Return the times and slots of the sample's last exposures: reads of keys that are really asked for."""
        exposure = next(index for index, record in enumerate(plan.types) if record.kind == "exposure")
        chunks = [*self._warming, *self._chunks]
        times = np.concatenate([chunk.times[chunk.types == exposure] for chunk in chunks])
        slots = np.concatenate([chunk.slots[:, chunk.types == exposure] for chunk in chunks], axis=1)
        latest = np.full(min(len(times), _MOST_READS), times.max(initial=0), np.int64)
        return latest, np.ascontiguousarray(slots[:, max(0, len(times) - _MOST_READS) :])


def _cut(batch: RecordBatch, length: int) -> list[RecordBatch]:
    return [span(batch, start, start + length) for start in range(0, len(batch), length)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
