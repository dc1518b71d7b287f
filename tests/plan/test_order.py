"""The order in which events arrive does not show, and a retraction undoes its event: the twin on random logs."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.reference import ReferenceEngine
from bowerbird.plan.spec import Plan
from tests.conformance.compare import MINUTE, START, assert_equal
from tests.conformance.logs import Record, records
from tests.shop_more import FEATURES, FUNCTIONS, project

BOUNDED = ("colours", "colour_count", "colour_share", "colour_since", "pair_items", "pair_item_count")
"""A top over its capacity forgets by order of arrival."""
WITH_TTL = (
    *("largest_ttl", "mean_ttl", "clicks_ttl", "since_ttl", "since_first_ttl", "last_colour", "fresh_brands"),
    *("brand_share", "session", "session_share", "pair_history", "pair_since"),
)
ORDER_FREE = {name: feature for name, feature in (FEATURES | FUNCTIONS).items() if name not in (*BOUNDED, *WITH_TTL)}
SUMS = ("spread_all", "spread_7d", "spread_fine", "spent", "clicks_7d")
DECAYED = ("decayed_sum", "decayed_mean", "decayed_count")
ALL = compile_plan(replace(project, features=ORDER_FREE))  # type: ignore[arg-type]
SUMMED = compile_plan(replace(project, features={name: FEATURES[name] for name in (*SUMS, *DECAYED)}))  # type: ignore[arg-type]
UNDONE = compile_plan(replace(project, features={name: FEATURES[name] for name in SUMS}))  # type: ignore[arg-type]


def answer(plan: Plan, log: list[Record], time: int) -> FeatureBlock:
    encoder, engine = Encoder(plan), ReferenceEngine(plan)
    engine.apply(encoder.encode_events(log))
    return engine.read(time, encoder.encode_request(1, {}), encoder.encode_items(["a", "b", "c", "d"]))


def shuffled(log: list[Record], seed: int) -> tuple[list[Record], list[Record]]:
    """The log with its tables first, and the same with its events in another order."""
    tables = [record for record in log if record["_type"] in ("users", "items", "brands")]
    events = [record for record in log if record["_type"] in ("click", "order", "exposure")]
    moved = list(events)
    random.Random(seed).shuffle(moved)
    return tables + events, tables + moved


minutes = st.sampled_from([-3000, -90, 0, 1, 61, 3000])


@settings(max_examples=150)
@given(records(retractions=False), st.integers(0, 1 << 30), minutes)
def test_the_order_of_events_does_not_show(log: list[Record], seed: int, later: int) -> None:
    before, after = shuffled(log, seed)
    time = START + 30 * 60 * MINUTE + later * MINUTE
    assert_equal(answer(ALL, before, time), answer(ALL, after, time))


@settings(max_examples=100)
@given(records(), st.integers(0, 1 << 30), minutes)
def test_the_order_of_retractions_does_not_show_in_sums(log: list[Record], seed: int, later: int) -> None:
    before, after = shuffled(log, seed)
    time = START + 30 * 60 * MINUTE + later * MINUTE
    assert_equal(answer(SUMMED, before, time), answer(SUMMED, after, time))


@settings(max_examples=100)
@given(records(retractions=False), st.data())
def test_a_retraction_restores_counts_sums_and_deviations(log: list[Record], data: st.DataObject) -> None:
    whole, _ = shuffled(log, 0)
    places = [at for at, record in enumerate(whole) if record["_type"] in ("click", "order")]
    if not places:
        return
    undone = data.draw(st.sampled_from(places))
    time = max(record["_time"] for record in whole) + MINUTE  # type: ignore[type-var, operator]
    without = [*whole[:undone], {"_type": "unknown", "_time": START}, *whole[undone + 1 :]]
    taken_back = [*whole, whole[undone] | {"_retracts": True}]
    assert_equal(replace(answer(UNDONE, without, time), lsn=0), replace(answer(UNDONE, taken_back, time), lsn=0))
