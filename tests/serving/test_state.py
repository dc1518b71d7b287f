import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import StateSettings
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.plan.spec import Plan
from bowerbird.plan.subset import extended_plan, held_by, merged_plan, missing_plan, needed_by
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_groups import StateMaker
from tests.shop import click as click_event
from tests.shop import item, items, order, project, user

NOW = 1_700_000_000_000_000
NOBODY = np.empty(0, np.uint64)


def click(number: int) -> dict[str, Any]:
    return {"_type": "click", "_id": str(number), "_time": NOW + number, "user": number % 3, "item": f"i{number % 5}"}


def plan_of(**features: Any) -> Plan:
    return compile_plan(dataclasses.replace(project, features=features, fit_until=None))


CLICKS = {"clicks": bb.count(click_event, by=user, window="1h")}
BY_ITEM = {"by_item": bb.count(click_event, by=item, window="1d")}
SPENT = {"spent": bb.total(order, order["amount"], by=[user, items["brand"]])}
PRICE = {"price": bb.number(items["price"])}


class SlowHistory:
    """A log of clicks, read in steps that a test can hold up; remembers what was asked for."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.asked: list[tuple[Plan, int, int]] = []
        self.reading, self.go_on = threading.Event(), threading.Event()

    def batches(self, plan: Plan, first: int, until: int) -> Iterator[RecordBatch]:
        self.asked.append((plan, first, until))
        self.reading.set()
        assert self.go_on.wait(10)
        if first < until:
            yield Encoder(plan).encode_events(self.events[first:until])


@pytest.fixture
def history() -> SlowHistory:
    history = SlowHistory([click(number) for number in range(100)])
    history.go_on.set()
    return history


def test_a_plan_joins_while_events_keep_coming_and_misses_none() -> None:
    plan = compile_plan(project)
    events = [click(number) for number in range(100)]
    history = SlowHistory(events)
    state = LiveState(history, lsn=60)
    joined: list[Any] = []
    thread = threading.Thread(target=lambda: joined.append(state.require(plan)))
    thread.start()
    assert history.reading.wait(10)
    for event in events[60:90]:
        state.apply([event])
    assert state.get(plan.fingerprint) is None
    history.go_on.set()
    thread.join()
    for event in events[90:]:
        state.apply([event])
    (live,) = joined
    assert state.lsn == live.lsn == 100
    alone = LiveState(SlowHistory([]), 0)
    assert state.require(plan) is live
    block = live.read(NOW + 200, 1, {}, NOBODY)
    assert block.lsn == 100
    assert block.numbers["clicks_1h"][0] == sum(event["user"] == 1 for event in events)
    assert alone.lsn == 0


def test_unused_plans_are_let_go(history: SlowHistory) -> None:
    plan = compile_plan(project)
    state = LiveState(history, 0)
    held = state.require(plan)
    state.keep_only(set())
    assert state.get(plan.fingerprint) is None
    assert state.require(plan) is not held


def test_a_request_in_flight_keeps_its_groups_going(history: SlowHistory) -> None:
    """A group that stood still beside one that goes on could not be read at one position."""
    state = LiveState(history, 0)
    state.require(plan_of(**CLICKS))
    both = state.require(plan_of(**CLICKS, **BY_ITEM))
    state.keep_only({plan_of(**CLICKS).fingerprint})
    state.apply([click(1), click(2)])
    assert both.read(NOW + 9, 1, {}, NOBODY).lsn == 2
    assert len(state.groups) == 2
    del both
    state.drop_unused()
    assert len(state.groups) == 1


def test_what_a_running_group_holds_is_not_replayed(history: SlowHistory) -> None:
    state = LiveState(history, 50)
    state.require(plan_of(**CLICKS))
    more = state.require(plan_of(**CLICKS, **BY_ITEM, **PRICE))
    state.require(plan_of(**PRICE))
    first, second = (plan for plan, _, _ in history.asked)
    assert [each.fingerprint for each in first.aggregates] == [
        each.fingerprint for each in plan_of(**CLICKS).aggregates
    ]
    assert [each.fingerprint for each in second.aggregates] == [
        each.fingerprint for each in plan_of(**BY_ITEM).aggregates
    ]
    assert len(state.groups) == 2
    state.apply([click(number) for number in range(50, 70)])
    engine = build_engine(more.plan)
    engine.apply(Encoder(more.plan).encode_events([click(number) for number in range(70)]))
    keys = more.encoder.encode_items([f"i{number}" for number in range(5)])
    expected = engine.read(NOW + 99, more.encoder.encode_request(2, {}), keys)
    block = more.read(NOW + 99, 2, {}, keys)
    assert block.lsn == 70
    for name, values in expected.numbers.items():
        np.testing.assert_array_equal(block.numbers[name], values)


def test_several_plans_are_prepared_in_one_reading_of_the_log(history: SlowHistory) -> None:
    state = LiveState(history, 100)
    plans = [plan_of(**CLICKS), plan_of(**CLICKS, **BY_ITEM), plan_of(**PRICE)]
    with state.prepared(plans):
        kept = [state.require(plan) for plan in plans]
    assert [(first, until) for _, first, until in history.asked] == [(0, 100)]
    assert len(state.groups) == 1
    assert {each.lsn for each in kept} == {100}
    assert state.recovery.replayed_records == 100


def test_prepared_groups_that_nobody_requires_go(history: SlowHistory) -> None:
    state = LiveState(history, 100)
    with state.prepared([plan_of(**CLICKS)]):
        assert len(state.groups) == 1
    assert state.groups == []


def test_a_plan_without_state_reads_at_the_log_s_end(history: SlowHistory) -> None:
    state = LiveState(history, 100)
    live = state.require(plan_of(user=bb.category(user)))
    assert live.read(NOW, 1, {}, NOBODY).lsn == 100


def test_a_failed_join_leaves_the_others_alone(history: SlowHistory) -> None:
    state = LiveState(history, 100)
    live = state.require(plan_of(**CLICKS))
    del history.events[50:]
    with pytest.raises(Exception, match="50 of 100"):
        state.require(plan_of(**BY_ITEM))
    state.apply([click(1)])
    assert live.lsn == state.lsn == 101


def test_missing_plans_hold_what_is_missing_and_nothing_else() -> None:
    whole = plan_of(**CLICKS, **SPENT, **PRICE)
    held = held_by(plan_of(**CLICKS))
    missing = missing_plan(whole, held)
    assert missing is not None
    assert held_by(missing) == needed_by(whole) - held | {("items", "items.brand")}
    assert {record.name for record in missing.types} == {"exposure", "order", "items"}
    assert missing_plan(whole, held_by(missing) | held) is None
    assert missing.nodes == missing.features == []
    only_price = missing_plan(whole, needed_by(whole) - {("items", "items.price")})
    assert only_price is not None
    assert held_by(only_price) == {("items", "items.price")}


def test_merged_and_extended_plans_hold_everything_once() -> None:
    parts = [plan_of(**CLICKS, **SPENT), plan_of(**BY_ITEM, **SPENT), compile_plan(project)]
    merged = merged_plan(parts)
    assert held_by(merged) == {each for part in parts for each in held_by(part)}
    assert len({each.fingerprint for each in merged.aggregates}) == len(merged.aggregates)
    extended = extended_plan(parts[0], parts[2])
    assert extended.slots[: len(parts[0].slots)] == parts[0].slots
    assert extended.aggregates[: len(parts[0].aggregates)] == parts[0].aggregates
    assert extended.features == parts[0].features
    assert held_by(extended) == held_by(merged_plan([parts[0], parts[2]]))


@pytest.mark.parametrize("full", ["refuse", "expire"])
def test_key_explosion_stays_within_the_budget(history: SlowHistory, full: str) -> None:
    """A bot with as many keys as events: the state stays within its memory, says what it cost, and goes on."""
    budget = 4 << 20
    state = LiveState(history, 0, maker=StateMaker(StateSettings(memory=str(budget), full=full)))
    live = state.require(plan_of(**CLICKS, **BY_ITEM))
    before = [{**click(0), "user": -1, "_time": NOW}]
    state.apply(before)
    for start in range(0, 60_000, 500):
        bot = [{**click(n), "_time": NOW + n * 1_000, "user": n, "item": f"i{n}"} for n in range(start, start + 500)]
        state.apply(bot)
    usage = state.usage()
    assert usage.memory <= budget
    assert usage.refused > 0 if full == "refuse" else usage.expired > 50_000
    assert live.read(NOW + 60_000_000, -1, {}, NOBODY).lsn == state.lsn == 60_001
    held = sum(live.read(NOW + 60_000_000, n, {}, NOBODY).numbers["clicks"][0] == 1 for n in range(59_000, 60_000))
    first = live.read(NOW + 60_000_000, -1, {}, NOBODY).numbers["clicks"][0]
    assert (held, first) == (0, 1) if full == "refuse" else held > 200 and first == 0


def test_groups_share_one_budget(history: SlowHistory) -> None:
    budget = 2 << 20
    state = LiveState(history, 100, maker=StateMaker(StateSettings(memory=str(budget))))
    clicks = state.require(plan_of(**CLICKS))
    state.require(plan_of(**CLICKS, **BY_ITEM))
    for start in range(0, 40_000, 500):
        state.apply([{**click(n), "user": n, "item": f"i{n}"} for n in range(start, start + 500)])
    assert state.usage().memory <= budget
    assert all(group.state.usage().refused > 0 for group in state.groups)
    state.keep_only({clicks.plan.fingerprint})
    before = state.usage().memory
    state.apply([{**click(n), "user": n} for n in range(100_000, 110_000)])
    assert len(state.groups) == 1
    assert before < state.usage().memory <= budget


def test_dropping_does_not_wait_for_a_plan_that_joins() -> None:
    history = SlowHistory([click(number) for number in range(10)])
    state = LiveState(history, 10)
    thread = threading.Thread(target=lambda: state.require(plan_of(**CLICKS)))
    thread.start()
    assert history.reading.wait(10)
    state.drop_unused(wait=False)
    history.go_on.set()
    thread.join()
    assert len(state.groups) == 1
