"""The native engine equals its NumPy twin, bit for bit, on any log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine
from bowerbird.plan.reference import ReferenceEngine
from tests.conformance.compare import MINUTE, START, assert_equal, part, reads_of
from tests.shop import project

PLAN = compile_plan(project)
ENCODER = Encoder(PLAN)

number = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, float("nan")]))
text = st.one_of(st.none(), st.sampled_from(["red", "blue", "x", ""]))
user_id = st.integers(1, 3)
item_id = st.sampled_from(["a", "b", "c"])
VALUES = {
    "exposure": {"user": user_id, "item": item_id, "page": st.integers(0, 2), "position": number},
    "click": {"user": user_id, "item": item_id, "page": st.one_of(st.none(), st.integers(0, 2))},
    "order": {"user": st.one_of(st.none(), user_id), "item": item_id, "amount": number},
    "users": {"user": user_id, "city": text, "member": st.one_of(st.none(), st.booleans()), "joined": number},
    "items": {"item": item_id, "brand": text, "colour": text, "price": number},
    "brands": {"brand": text, "country": text},
}


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, object]]:
    kinds = draw(st.lists(st.sampled_from([*VALUES, "click", "click", "order", "unknown"]), max_size=40))
    time, drawn = START, []
    for kind in kinds:
        time += draw(st.sampled_from([0, MINUTE, 7 * MINUTE, 60 * MINUTE, 30 * 60 * MINUTE, -MINUTE, -200 * MINUTE]))
        values = {name: draw(value) for name, value in VALUES.get(kind, {}).items()}
        drawn.append({"_type": kind, "_time": time, **values})
    return drawn


@settings(max_examples=150)
@given(events())
def test_replay_equals_twin(log: list[dict[str, object]]) -> None:
    batch = ENCODER.encode_events(log)
    reads = reads_of(batch, PLAN)
    assert_equal(NativeEngine(PLAN).replay(batch, reads), ReferenceEngine(PLAN).replay(batch, reads))


@settings(max_examples=100)
@given(
    events(),
    st.integers(1, 4),
    st.lists(st.sampled_from(["a", "b", "c", "never"]), max_size=6),
    st.integers(-90, 90),
)
def test_live_read_equals_twin(log: list[dict[str, object]], who: int, items: list[str], minutes: int) -> None:
    batch = ENCODER.encode_events(log)
    native, twin = NativeEngine(PLAN), ReferenceEngine(PLAN)
    native.apply(batch)
    twin.apply(batch)
    time = (log[-1]["_time"] if log else START) + minutes * MINUTE  # type: ignore[operator]
    request = ENCODER.encode_request(who, {"page": 1, "position": 2.0})
    candidates = ENCODER.encode_items(items)
    assert_equal(native.read(time, request, candidates), twin.read(time, request, candidates))


@settings(max_examples=50)
@given(events(), st.integers(0, 40))
def test_live_read_equals_replayed_read(log: list[dict[str, object]], cut: int) -> None:
    """What is served at an LSN is what replay reads there, however the log was cut into batches."""
    batch = ENCODER.encode_events(log)
    cut = min(cut, len(batch))
    live = NativeEngine(PLAN)
    live.apply(part(batch, 0, cut))
    request = ENCODER.encode_request(2, {"page": 0})
    item = ENCODER.encode_items(["b"])
    served = live.read(START + 90 * MINUTE, request, item)
    asked = request.copy()
    asked[PLAN.item_slot] = item[0]
    reads = ReadBatch(np.array([cut]), np.array([START + 90 * MINUTE]), asked[:, None].copy())
    replayed = NativeEngine(PLAN).replay(batch, reads)
    for name, column in replayed.numbers.items():
        np.testing.assert_array_equal(column, served.numbers[name], err_msg=name)
    for name, keys in replayed.categories.items():
        np.testing.assert_array_equal(keys, served.categories[name], err_msg=name)


def test_replay_rejects_reads_out_of_reach() -> None:
    empty = ENCODER.encode_events([])
    slots = ENCODER.encode_request(1, {})[:, None].copy()
    with pytest.raises(ValueError, match="beyond the records"):
        NativeEngine(PLAN).replay(empty, ReadBatch(np.array([5]), np.array([START]), slots))


def test_batches_of_the_wrong_shape_are_refused() -> None:
    batch = ENCODER.encode_events([{"_type": "click", "_time": START, "user": 1, "item": "a", "page": 1}])
    with pytest.raises(ValueError, match="another number of rows"):
        NativeEngine(PLAN).apply(RecordBatch(batch.types, batch.times, batch.slots[:-1].copy()))
    with pytest.raises(ValueError, match="not in the plan"):
        NativeEngine(PLAN).apply(RecordBatch(np.array([99], np.int32), batch.times, batch.slots))
