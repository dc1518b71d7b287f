"""What the benchmarks of states share: a plan of 30 features, the generated log as record batches, a filled state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.features.log import CLICK, EXPOSURE, LogShape, batches, catalogue
from bench.features.plan import SEQUENCE, click, exposure, features, item, items, user
from bowerbird import declare as bb
from bowerbird.declare.expressions import SequenceOf
from bowerbird.declare.features import FeatureExpression
from bowerbird.plan.batch import RecordBatch, Slots
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState

RATE = 20_000
"""Events a second that stream in."""
BATCH = 100
"""Events that the stream applies at once."""
CANDIDATES = 500
_GENERATED = 1 << 17


def plan_of_30() -> Plan:
    """Return the 24 features of bench.features and six more of the same state: three keys, three matches."""
    made = features()
    clicked = made[SEQUENCE]
    assert isinstance(clicked, SequenceOf)
    made |= _more(clicked)
    assert len(made) == 30
    return compile_plan(
        bb.Project(name="state", exposure=exposure, user=user, item=item, events=[click], tables=[items], features=made)
    )


def _more(clicked: SequenceOf) -> dict[str, FeatureExpression]:
    return {
        "user": bb.category(user),
        "item": bb.category(item),
        "category": bb.category(items["category"]),
        "item_clicked": bb.match(clicked, item),
        "category_clicked": bb.match(clicked, items["category"]),
        "category_since": bb.match(clicked, items["category"], what="since"),
    }


class Log:
    """The generated log, encoded: attributes first, then events; the same records each time."""

    def __init__(self, plan: Plan, shape: LogShape) -> None:
        self.shape = shape
        self._plan = plan
        self._encoder = Encoder(plan)
        kinds = {EXPOSURE: "exposure", CLICK: "click"}
        self._types = np.array([plan.type_index(kinds[kind]) for kind in sorted(kinds)], dtype=np.int32)

    def attributes(self) -> RecordBatch:
        """Return every item's category."""
        rows = catalogue(self.shape)
        types = np.full(len(rows), self._plan.type_index("items"), dtype=np.int32)
        return RecordBatch(types, np.zeros(len(rows), np.int64), self._encoder.encode_table("items", rows))

    def events(self) -> Iterator[RecordBatch]:
        """Yield the events in large batches."""
        for batch in batches(self.shape, _GENERATED):
            yield self.encoded(pa.table(batch))

    def encoded(self, events: pa.Table) -> RecordBatch:
        """Return events as the log's file holds them as records."""
        slots = self._encoder.encode_table("exposure", events)
        return RecordBatch(self._types[events["kind"].to_numpy()], events["time"].to_numpy(), slots)

    def request(self, who: int) -> Slots:
        """Return a user's request."""
        return self._encoder.encode_request(who, {})

    def candidates(self, generator: np.random.Generator) -> npt.NDArray[np.uint64]:
        """Return 500 items, drawn evenly."""
        return self._encoder.encode_items(generator.integers(0, self.shape.items, CANDIDATES).tolist())


class Tail:
    """Events that are yet to come, taken from the log in order; remembers what it gave."""

    def __init__(self, events: Iterator[RecordBatch]) -> None:
        self._events = events
        self._now: RecordBatch = next(events)
        self._at = 0

    def take(self, size: int) -> RecordBatch:
        """Return the next records, at most ``size`` (fewer where a generated batch ends)."""
        if self._at == len(self._now):
            self._now, self._at = next(self._events), 0
        taken = cut(self._now, self._at, self._at + size)
        self._at += len(taken)
        return taken

    def take_all(self, events: int, size: int) -> list[RecordBatch]:
        """Return the next ``events`` records, about ``size`` in each batch."""
        taken: list[RecordBatch] = []
        while events > 0:
            taken.append(self.take(min(size, events)))
            events -= len(taken[-1])
        return taken


def cut(records: RecordBatch, first: int, last: int) -> RecordBatch:
    """Return the records from ``first`` up to ``last``."""
    slots = np.ascontiguousarray(records.slots[:, first:last])
    return RecordBatch(records.types[first:last], records.times[first:last], slots)


def fill(state: FeatureState, log: Log, tail: Tail, events: int) -> None:
    """Apply the attributes and so many events."""
    state.apply(log.attributes())
    for batch in tail.take_all(events, _GENERATED):
        state.apply(batch)


def stream(state: FeatureState, records: list[RecordBatch], rate: int = RATE) -> npt.NDArray[np.float64]:
    """Apply batches at ``rate`` events a second; return how many seconds each ``apply`` took."""
    taken = np.empty(len(records))
    due = time.perf_counter()
    for at, batch in enumerate(records):
        due += len(batch) / rate
        started = time.perf_counter()
        state.apply(batch)
        ended = time.perf_counter()
        taken[at] = ended - started
        time.sleep(max(0.0, due - ended))
    return taken


def free_file(folder: Path, name: str) -> Path:
    """Return a path in a folder where no file is."""
    path = folder / f"{name}.{time.time_ns()}"
    path.unlink(missing_ok=True)
    return path
