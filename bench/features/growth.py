"""How cost and memory grow with the log at a fixed, saturated population of keys: ``python -m bench.features.growth``.

Events are made on the fly and half a million fall on a day, so every key is known and every window full before the
first mark. The cost at a mark is that of the last 2.5M events before it, encoding included, making them not.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from bench.common import Row, write
from bench.features.log import LogShape, batches, catalogue
from bench.features.ours import BATCH, Feeder
from bench.features.plan import compiled, features
from bowerbird.plan.engine import NativeEngine

MARKS = (5_000_000, 20_000_000, 100_000_000)
_SPAN = 2_500_000
_HEAD, _ENTRY = 20, 28
FORMULA = "a key: 28 (table; 21 to 43) + 20 + 2 an aggregate + its states, each 12 + 4 a tile, to whole 8s"
_EVENTS_A_DAY = 500_000


@dataclass(frozen=True)
class Mark:
    """After ``events``: nanoseconds an event, keys and bytes of state by family, and what the formula says in all."""

    events: int
    nanoseconds: float
    keys: dict[str, int]
    bytes: dict[str, int]
    formula: float


def shape(events: int) -> LogShape:
    """Return a log of few keys: 20,000 users and items, 200,000 pairs of user and category."""
    return LogShape(events, events / _EVENTS_A_DAY, 20_000, 20_000, 10, user_skew=0.5)


def grow(last: int, threads: int) -> list[Mark]:
    """Replay ``last`` events and return what was found at the marks below and at the end."""
    log = shape(last)
    feeder = Feeder(compiled(list(features())), threads)
    feeder.catalogue(catalogue(log))
    marks: list[Mark] = []
    done = counted = 0
    seconds = 0.0
    goals = [*(mark for mark in MARKS if mark < last), last]
    for batch in batches(log, BATCH):
        started = time.perf_counter()
        feeder.events(batch)
        taken = time.perf_counter() - started
        done += len(batch)
        if goals and done > goals[0] - _SPAN:
            seconds, counted = seconds + taken, counted + len(batch)
        if goals and done >= goals[0]:
            usage = feeder.engine.usage()
            nanoseconds, expected = seconds / counted * 1e9, formula(feeder.engine)
            marks.append(Mark(goals.pop(0), nanoseconds, usage.family_keys, usage.family_bytes, expected))
            seconds, counted = 0.0, 0
    return marks


def formula(engine: NativeEngine) -> float:
    """Return the bytes that state should take: see ``FORMULA``."""
    aggregates = [aggregate.family for aggregate in engine.plan.aggregates]
    keys = list(engine.usage().family_keys.values())
    heads = sum(count * (_HEAD + _ENTRY) for count in keys)
    states = sum(engine.state.aggregate_bytes().values())
    assert len(keys) == max(aggregates) + 1
    return heads + states


def rows(marks: list[Mark]) -> list[Row]:
    """Return the figures as the benchmark's rows."""
    found = []
    for mark in marks:
        sizes = ", ".join(
            f"{name}: {mark.keys[name]:,} keys of {size / max(1, mark.keys[name]):,.0f} B"
            for name, size in mark.bytes.items()
        )
        case = f"growth: {mark.events / 1e6:.0f}M events"
        found += [
            Row(f"{case}, an event's cost", mark.nanoseconds, "ns"),
            Row(f"{case}, state", sum(mark.bytes.values()) / 2**20, "MiB", note=sizes),
            Row(f"{case}, state over the formula's", sum(mark.bytes.values()) / mark.formula, "times", note=FORMULA),
        ]
    costs = [mark.nanoseconds for mark in marks]
    return [*found, Row("growth: dearest mark over cheapest", max(costs) / min(costs), "times", note="at most 1.3")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=MARKS[-1])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    write("features_growth", rows(grow(arguments.events, arguments.threads)))


if __name__ == "__main__":
    main()
