"""What a window, a decay, a late event and a time zone mean, in numbers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from bowerbird.kernels.keys import key_integer
from bowerbird.plan.aggregates import tile_of
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine
from tests.shop import project

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 20_000 * DAY
PLAN = compile_plan(project)
ENCODER = Encoder(PLAN)


def after(*events: dict[str, object]) -> NativeEngine:
    engine = NativeEngine(PLAN)
    engine.apply(ENCODER.encode_events(events))
    return engine


def click(time: int, user: int = 1, item: str = "a") -> dict[str, object]:
    return {"_type": "click", "_time": time, "user": user, "item": item, "page": 0}


def value(engine: NativeEngine, name: str, time: int, user: int = 1, item: str = "a") -> float:
    block = engine.read(time, ENCODER.encode_request(user, {"page": 0}), ENCODER.encode_items([item]))
    return float(block.numbers[name][0])


def test_tiles_of_the_usual_windows() -> None:
    assert tile_of(HOUR) == 5 * MINUTE
    assert tile_of(DAY) == HOUR
    assert tile_of(7 * DAY) == 6 * HOUR


def test_a_window_covers_the_current_tile_and_the_whole_ones_before() -> None:
    engine = after(click(START + 4 * MINUTE))
    assert value(engine, "clicks_1h", START + 4 * MINUTE) == 1
    assert value(engine, "clicks_1h", START + 59 * MINUTE + 59_999_999) == 1
    assert value(engine, "clicks_1h", START + 60 * MINUTE) == 0


def test_a_read_before_the_event_does_not_count_later_tiles() -> None:
    engine = after(click(START + 29 * MINUTE))
    assert value(engine, "clicks_1h", START + 24 * MINUTE) == 0
    assert value(engine, "clicks_1h", START + 25 * MINUTE) == 1


def test_a_late_event_joins_its_tile() -> None:
    engine = after(click(START + 50 * MINUTE), click(START + 10 * MINUTE))
    assert value(engine, "clicks_1h", START + 55 * MINUTE) == 2
    assert value(engine, "clicks_1h", START + 80 * MINUTE) == 1


def test_decay_halves() -> None:
    order = {"_type": "order", "_time": START, "user": 1, "item": "a", "amount": 8.0}
    brand = {"_type": "items", "_time": START - 1, "item": "a", "brand": "b", "colour": None, "price": None}
    engine = after(brand, order)
    assert value(engine, "decayed", START) == 1
    assert value(engine, "decayed", START + HOUR) == 0.5
    assert value(engine, "decayed", START + 3 * HOUR) == 0.125


def test_rate_is_smoothed_to_its_prior() -> None:
    shown = {"_type": "exposure", "_time": START, "user": 1, "item": "a", "page": 0, "position": 1.0}
    engine = after(shown, click(START + 1))
    assert value(engine, "rate", START + MINUTE) == pytest.approx((1 + 0.1 * 5) / (1 + 5))
    assert value(engine, "rate", START + MINUTE, item="never seen") == pytest.approx(0.1)


def test_sums_are_fixed_point() -> None:
    orders = [{"_type": "order", "_time": START, "user": 1, "item": "a", "amount": 0.1} for _ in range(10)]
    assert value(after(*orders), "spent_7d", START) == np.float32(1.0)


@pytest.mark.parametrize(
    ("moment", "hour"),
    [
        (datetime(2024, 1, 15, 12, tzinfo=UTC), 13),
        (datetime(2024, 7, 15, 12, tzinfo=UTC), 14),
        (datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC), 1),
        (datetime(2024, 3, 31, 1, 0, 0, tzinfo=UTC), 3),
        (datetime(2024, 10, 27, 1, 0, 0, tzinfo=UTC), 2),
    ],
)
def test_hour_follows_daylight_saving(moment: datetime, hour: int) -> None:
    time = round(moment.timestamp()) * 1_000_000
    block = NativeEngine(PLAN).read(time, ENCODER.encode_request(1, {}), ENCODER.encode_items([]))
    assert int(block.categories["hour"][0]) == key_integer(hour)


def test_weekday_starts_on_monday() -> None:
    monday = round(datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
    block = NativeEngine(PLAN).read(monday, ENCODER.encode_request(1, {}), ENCODER.encode_items([]))
    assert int(block.categories["weekday"][0]) == key_integer(0)


def test_an_attribute_is_as_of_the_read() -> None:
    first = {"_type": "items", "_time": START, "item": "a", "brand": "x", "colour": "red", "price": 1.0}
    engine = after(first)
    before = value(engine, "price_log", START)
    engine.apply(ENCODER.encode_events([first | {"price": 3.0}]))
    assert before == pytest.approx(np.log1p(1.0))
    assert value(engine, "price_log", START) == pytest.approx(np.log1p(3.0))
