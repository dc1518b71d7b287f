"""A plan read from two states, each with some of its aggregates, is the plan read from one."""

from __future__ import annotations

import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.engine import FeatureState, NativeEngine, StateOptions
from bowerbird.plan.read import PlanReader
from bowerbird.plan.spec import Plan
from tests.conformance.compare import START, assert_equal, part
from tests.conformance.logs import Record, records
from tests.conformance.states import SHOPS, Shop, applied, assert_all_equal, latest, wide_log

shops = pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())


def halves(plan: Plan, versioned: bool) -> list[FeatureState]:
    """Two states: every second aggregate in each."""
    return [
        FeatureState(
            msgspec.structs.replace(plan, aggregates=plan.aggregates[first::2], nodes=[], features=[]),
            StateOptions(versioned=versioned),
        )
        for first in (0, 1)
    ]


@shops
@settings(max_examples=40)
@given(records(), st.integers(0, 40), st.booleans())
def test_two_states_read_as_one(shop: Shop, log: list[Record], cut: int, versioned: bool) -> None:
    batch = shop.encoder.encode_events(log)
    states = halves(shop.plan, versioned)
    for first, last in ((0, min(cut, len(batch))), (min(cut, len(batch)), len(batch))):
        for state in states:
            state.apply(part(batch, first, last))
    looked = shop.look(PlanReader(shop.plan, states), latest(batch))
    assert_all_equal(looked, shop.look(applied(shop.plan, batch), latest(batch)))


def test_two_states_are_read_at_one_position() -> None:
    """The one that is ahead is read where the other is."""
    shop = SHOPS["more"]
    batch = shop.encoder.encode_events(wide_log(7, 4000))
    ahead, behind = halves(shop.plan, versioned=True)
    reader, one = PlanReader(shop.plan, [ahead, behind]), NativeEngine(shop.plan)
    for first in range(0, len(batch), 400):
        records_now = part(batch, first, first + 400)
        ahead.apply(records_now)
        assert_all_equal(shop.look(reader, latest(batch)), shop.look(one, latest(batch)))
        behind.apply(records_now)
        one.apply(records_now)
        assert_all_equal(shop.look(reader, latest(batch)), shop.look(one, latest(batch)))


def test_two_states_are_read_at_one_position_beside_their_writer() -> None:
    shop = SHOPS["more"]
    batch = shop.encoder.encode_events(wide_log(8, 6000))
    states = halves(shop.plan, versioned=True)
    reader, found = PlanReader(shop.plan, states), []
    request, candidates = shop.encoder.encode_request(1, {}), shop.encoder.encode_items(["a", "b", "i7"])
    writer = threading.Thread(target=_write, args=(states, batch))
    writer.start()
    while writer.is_alive():
        found.append(reader.read(START + 1, request, candidates))
    writer.join()
    one = NativeEngine(shop.plan)
    for block in found[:: max(1, len(found) // 100)]:
        one.apply(part(batch, one.lsn, block.lsn))
        assert_equal(block, one.read(START + 1, request, candidates))


def _write(states: list[FeatureState], batch: RecordBatch) -> None:
    for first in range(0, len(batch), 30):
        for state in states:
            state.apply(part(batch, first, min(first + 30, len(batch))))
