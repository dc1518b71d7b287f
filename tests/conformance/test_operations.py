"""The native engine equals its NumPy twin on the second shop: retractions, vectors, times to live, users' functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.batch import ReadBatch
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, StateOptions
from bowerbird.plan.reference import ReferenceEngine
from tests.conformance.compare import MINUTE, START, assert_equal, part, reads_of
from tests.conformance.logs import Record, records
from tests.conformance.long_logs import long_log
from tests.shop_more import project

PLAN = compile_plan(project)
ENCODER = Encoder(PLAN)


@settings(max_examples=200)
@given(records())
def test_replay_equals_twin(log: list[Record]) -> None:
    batch = ENCODER.encode_events(log)
    reads = reads_of(batch, PLAN)
    assert_equal(NativeEngine(PLAN).replay(batch, reads), ReferenceEngine(PLAN).replay(batch, reads))


@settings(max_examples=150)
@given(
    records(),
    st.integers(0, 40),
    st.integers(1, 3),
    st.lists(st.sampled_from(["a", "b", "c", "d", "never"]), max_size=6),
    st.sampled_from([-3000, -90, -1, 0, 1, 44, 46, 61, 200, 3000, 30_000]),
)
def test_live_read_equals_twin(log: list[Record], cut: int, who: int, items: list[str], minutes: int) -> None:
    batch = ENCODER.encode_events(log)
    cut = min(cut, len(batch))
    native, twin = NativeEngine(PLAN), ReferenceEngine(PLAN)
    native.apply(part(batch, 0, cut))
    native.apply(part(batch, cut, len(batch)))
    twin.apply(batch)
    time = max([START, *(int(time) for time in batch.times)]) + minutes * MINUTE
    request = ENCODER.encode_request(who, {"page": 2, "position": 2.0})
    candidates = ENCODER.encode_items(items)
    assert_equal(native.read(time, request, candidates), twin.read(time, request, candidates))


@settings(max_examples=50)
@given(records(), st.integers(0, 40))
def test_live_read_equals_replayed_read(log: list[Record], cut: int) -> None:
    """What is served at an LSN is what replay reads there."""
    batch = ENCODER.encode_events(log)
    cut, time = min(cut, len(batch)), START + 90 * MINUTE
    live = NativeEngine(PLAN)
    live.apply(part(batch, 0, cut))
    request, candidate = ENCODER.encode_request(2, {}), ENCODER.encode_items(["b"])
    served = live.read(time, request, candidate)
    asked = request.copy()
    asked[PLAN.item_slot] = candidate[0]
    reads = ReadBatch(np.array([cut]), np.array([time]), asked[:, None].copy())
    replayed = NativeEngine(PLAN).replay(batch, reads)
    for kind in ("numbers", "categories", "vectors"):
        for name, column in getattr(replayed, kind).items():
            np.testing.assert_array_equal(column, getattr(served, kind)[name], err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_long_logs_read_the_same(seed: int) -> None:
    batch = ENCODER.encode_events(long_log(seed, 300))
    reads = reads_of(batch, PLAN)
    native, twin = NativeEngine(PLAN), ReferenceEngine(PLAN)
    assert_equal(native.replay(batch, reads), twin.replay(batch, reads))
    request, candidates = ENCODER.encode_request(1, {}), ENCODER.encode_items(["a", "b", "c", "never"])
    for minutes in (-100_000, -60, 0, 1, 40, 4000):
        time = int(batch.times.max()) + minutes * MINUTE
        assert_equal(native.read(time, request, candidates), twin.read(time, request, candidates))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_show(threads: int) -> None:
    batch = ENCODER.encode_events(long_log(31, 400))
    reads = reads_of(batch, PLAN)
    shared = NativeEngine(PLAN, StateOptions(threads=threads))
    assert_equal(shared.replay(batch, reads), NativeEngine(PLAN).replay(batch, reads))


@pytest.mark.parametrize("seed", range(40, 44))
def test_a_versioned_state_reads_the_same(seed: int) -> None:
    batch = ENCODER.encode_events(long_log(seed, 300))
    native, twin = NativeEngine(PLAN, StateOptions(versioned=True)), ReferenceEngine(PLAN)
    request, candidates = ENCODER.encode_request(1, {}), ENCODER.encode_items(["a", "b", "c", "never"])
    for first in range(0, len(batch), 37):
        records_now = part(batch, first, min(first + 37, len(batch)))
        native.apply(records_now)
        twin.apply(records_now)
        time = int(records_now.times.max())
        assert_equal(native.read(time, request, candidates), twin.read(time, request, candidates))
