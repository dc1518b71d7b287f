import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan
from bowerbird.serving.state import LiveState
from tests.shop import project

NOW = 1_700_000_000_000_000


def click(number: int) -> dict[str, Any]:
    return {"_type": "click", "_id": str(number), "_time": NOW + number, "user": number % 3, "item": f"i{number % 5}"}


class SlowHistory:
    """A log of clicks, read in steps that a test can hold up."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.reading, self.go_on = threading.Event(), threading.Event()

    def batches(self, plan: Plan, until: int) -> Iterator[RecordBatch]:
        self.reading.set()
        assert self.go_on.wait(10)
        yield Encoder(plan).encode_events(self.events[:until])


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
    assert state.lsn == live.engine.lsn == 100
    alone = LiveState(SlowHistory([]), 0)
    assert state.require(plan) is live
    nothing = np.empty(0, np.uint64)
    block = live.read(NOW + 200, 1, {}, nothing)
    assert block.lsn == 100
    assert block.numbers["clicks_1h"][0] == sum(event["user"] == 1 for event in events)
    assert alone.lsn == 0


def test_unused_plans_are_let_go() -> None:
    plan = compile_plan(project)
    history = SlowHistory([])
    history.go_on.set()
    state = LiveState(history, 0)
    held = state.require(plan)
    state.keep_only(set())
    assert state.get(plan.fingerprint) is None
    state.apply([click(1)])
    assert held.engine.lsn == 0
    assert state.require(plan) is not held
