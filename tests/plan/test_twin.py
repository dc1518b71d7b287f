"""What each operation of the second shop means, in numbers worked out by hand or by a closed form."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.reference import ReferenceEngine
from tests.shop_more import project

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 20_000 * DAY
PLAN = compile_plan(project)
ENCODER = Encoder(PLAN)
Record = dict[str, object]


def after(*records: Record) -> ReferenceEngine:
    engine = ReferenceEngine(PLAN)
    engine.apply(ENCODER.encode_events(records))
    return engine


def described(item: str, colour: str | None = None, **values: object) -> Record:
    row = {"brand": None, "colour": colour, "price": None, "embedding": None}
    return {"_type": "items", "_time": START - DAY, "item": item, **row, **values}


def click(time: int, item: str = "a", user: int = 1) -> Record:
    return {"_type": "click", "_time": time, "user": user, "item": item, "page": 0}


def order(time: int, amount: float | None, item: str = "a", user: int = 1) -> Record:
    return {"_type": "order", "_time": time, "user": user, "item": item, "amount": amount, "coupon": None}


def undo(record: Record) -> Record:
    return record | {"_retracts": True}


def read(engine: ReferenceEngine, time: int, item: str = "a", **context: object) -> FeatureBlock:
    return engine.read(time, ENCODER.encode_request(1, context), ENCODER.encode_items([item]))


def value(engine: ReferenceEngine, name: str, time: int, item: str = "a") -> float:
    return float(read(engine, time, item).numbers[name][0])


def listed(block: FeatureBlock, name: str, field: str) -> list[float]:
    return [float(each) for each in block.sequences[name].fields[field]]


def keys(block: FeatureBlock, name: str, field: str) -> list[int]:
    return [int(each) for each in block.sequences[name].fields[field]]


def test_extremes_and_their_windows() -> None:
    engine = after(order(START, 3.5), order(START + HOUR, -2.0), order(START + 2 * DAY, 1.0), order(START, None))
    assert value(engine, "smallest", START + 2 * DAY) == -2.0
    assert value(engine, "smallest_1d", START + 2 * DAY) == 1.0
    assert value(engine, "largest_1h", START + 2 * DAY) == 1.0
    assert math.isnan(value(engine, "smallest_1d", START + 4 * DAY))
    assert value(engine, "amount_range", START + 2 * DAY) == 5.5


def test_a_retraction_leaves_extremes_and_takes_back_sums() -> None:
    big = order(START, 50.0)
    engine = after(big, order(START, 1.0), undo(big))
    assert value(engine, "largest_1h", START) == 50.0
    assert value(engine, "spent", START) == 1.0
    assert value(engine, "spread_all", START) == 0.0
    assert value(engine, "decayed_sum", START) == pytest.approx(1.0, rel=1e-6)


def test_a_retraction_that_comes_first_counts_below_zero() -> None:
    engine = after(undo(click(START)))
    assert value(engine, "clicks_7d", START) == -1.0
    engine.apply(ENCODER.encode_events([click(START)]))
    assert value(engine, "clicks_7d", START) == 0.0


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (1e6, 0.01), (-3e4, 500.0)])
def test_deviation_agrees_with_numpy(offset: float, spread: float) -> None:
    random_numbers = np.random.default_rng(7)
    amounts = np.round(offset + spread * random_numbers.standard_normal(200), 2)
    engine = after(*(order(START + at, float(amount)) for at, amount in enumerate(amounts)))
    assert value(engine, "spread_all", START + HOUR) == pytest.approx(np.std(amounts), rel=1e-6)
    fine = np.std(np.round(amounts * 2**20) / 2**20)
    assert value(engine, "spread_fine", START + HOUR) == pytest.approx(fine, rel=1e-6)


def test_deviation_of_one_event_is_zero_and_of_none_unknown() -> None:
    assert value(after(order(START, 7.0)), "spread_all", START) == 0.0
    assert math.isnan(value(after(), "spread_all", START))


@pytest.mark.parametrize("seed", range(5))
def test_decay_agrees_with_its_closed_form(seed: int) -> None:
    chance = random.Random(seed)
    times = [START + chance.randrange(5 * HOUR) for _ in range(60)]
    amounts = [round(chance.uniform(-5, 20), 3) for _ in times]
    chance.shuffle(times)
    engine = after(*(order(time, amount) for time, amount in zip(times, amounts, strict=True)))
    now = START + 6 * HOUR
    hour = [math.exp2(-(now - time) / HOUR) for time in times]
    half = [math.exp2(-(now - time) / (30 * MINUTE)) for time in times]
    total = sum(weight * amount for weight, amount in zip(hour, amounts, strict=True))
    mean = sum(weight * amount for weight, amount in zip(half, amounts, strict=True)) / sum(half)
    few = sum(math.exp2(-(now - time) / (10 * MINUTE)) for time in times)
    assert value(engine, "decayed_sum", now) == pytest.approx(total, rel=1e-5)
    assert value(engine, "decayed_mean", now) == pytest.approx(mean, rel=1e-3)  # amounts in hundredths
    assert value(engine, "decayed_count", now) == pytest.approx(few, rel=1e-5)


def test_events_four_epochs_before_the_newest_have_decayed() -> None:
    epoch = 80 * MINUTE
    engine = after(click(START + 4 * epoch), click(START))
    assert value(engine, "decayed_count", START + 4 * epoch) == 1.0


def test_decay_does_not_grow_before_the_latest_event() -> None:
    engine = after(order(START, 4.0), order(START + DAY, 2.0))
    assert value(engine, "decayed_sum", START) == value(engine, "decayed_sum", START + DAY)
    assert value(engine, "decayed_sum", START) == pytest.approx(2.0, rel=1e-5)


def test_time_to_live_forgets_at_a_gap() -> None:
    engine = after(order(START, 4.0), order(START + HOUR, 2.0))
    assert value(engine, "mean_ttl", START + 3 * HOUR) == 3.0
    assert math.isnan(value(engine, "mean_ttl", START + 3 * HOUR + 1))
    engine.apply(ENCODER.encode_events([order(START + 3 * HOUR + 1, 10.0)]))
    assert value(engine, "mean_ttl", START + 3 * HOUR + 1) == 10.0
    engine.apply(ENCODER.encode_events([order(START + 2 * HOUR, 20.0)]))
    assert value(engine, "mean_ttl", START + 3 * HOUR + 1) == 15.0


def test_first_and_last_with_and_without_time_to_live() -> None:
    engine = after(click(START + HOUR), click(START), click(START + 3 * HOUR))
    now = START + 3 * HOUR + 30 * MINUTE
    assert value(engine, "since_first", now) == 3.5 * 3600
    assert value(engine, "since_first_ttl", now) == 1800
    assert value(engine, "since_ttl", now) == 1800
    assert math.isnan(value(engine, "since_ttl", now + 16 * MINUTE))
    assert value(engine, "since_first", now + DAY) == 27.5 * 3600


def test_latest_is_of_the_newest_event_in_time() -> None:
    engine = after(described("a", "red"), described("b"), click(START + 2, "b"), click(START + 1, "a"))
    block = read(engine, START + MINUTE)
    assert int(block.categories["last_item"][0]) == key_text("b")
    assert int(block.categories["last_colour"][0]) == 0
    engine.apply(ENCODER.encode_events([click(START + 3, "a"), order(START + 4, 2.5), order(START + 3, 9.0)]))
    block = read(engine, START + MINUTE)
    assert int(block.categories["last_colour"][0]) == key_text("red")
    assert float(block.numbers["last_amount"][0]) == 2.5
    assert float(block.numbers["last_amount_log"][0]) == np.float32(math.log1p(2.5))


def test_a_distinct_sequence_keeps_the_latest_of_each() -> None:
    times = {"a": START, "b": START + 1, "c": START + 2, "d": START + 3}
    engine = after(*(click(time, item) for item, time in times.items()), click(START + 4, "b"), click(START, "d"))
    block = read(engine, START + 10)
    assert keys(block, "seen", "item") == [key_text(item) for item in "cdb"]
    assert value(engine, "seen_since", START + 4 + 1_000_000, "b") == 1.0
    engine.apply(ENCODER.encode_events([undo(click(START + 4, "b"))]))
    assert keys(read(engine, START + 10), "seen", "item") == [key_text(item) for item in "cd"]


def test_a_sequence_stands_in_order_of_time() -> None:
    engine = after(click(START + 5, "c"), click(START + 1, "a"), order(START + 3, 1.0, "b"))
    block = read(engine, START + 1_000_005)
    assert keys(block, "session", "item") == [key_text(item) for item in "abc"]
    np.testing.assert_allclose(block.sequences["session"].age, [1.000004, 1.000002, 1.0], rtol=1e-7)
    assert len(read(engine, START + 31 * MINUTE).sequences["session"].age) == 0


def test_a_top_counts_and_makes_room() -> None:
    tables = [described("a", "red"), described("b", "blue"), described("c", "green"), described("d")]
    clicks = [click(START + 1, "a"), click(START + 2, "b"), click(START + 3, "b"), click(START + 4, "d")]
    engine = after(*tables, *clicks)
    block = read(engine, START + 2_000_003, "b")
    assert keys(block, "colours", "items.colour") == [key_text("red"), key_text("blue")]
    assert listed(block, "colours", "count") == [1.0, 2.0]
    np.testing.assert_allclose(block.sequences["colours"].age, [2.000002, 2.0], rtol=1e-7)
    assert float(block.numbers["colour_share"][0]) == np.float32(2 / 3)
    assert float(block.numbers["colour_since"][0]) == 2.0
    engine.apply(ENCODER.encode_events([click(START + 5, "c")]))
    block = read(engine, START + 5, "a")
    assert keys(block, "colours", "items.colour") == [key_text("green"), key_text("blue")]
    assert float(block.numbers["colour_count"][0]) == 0.0
    assert math.isnan(float(block.numbers["colour_since"][0]))
    engine.apply(ENCODER.encode_events([undo(click(START + 5, "c")), undo(click(START + 3, "b"))]))
    block = read(engine, START + 5, "b")
    assert keys(block, "colours", "items.colour") == [key_text("blue")]
    assert float(block.numbers["colour_share"][0]) == 1.0


def test_a_match_sees_more_of_a_top_than_it_shows() -> None:
    engine = after(*(click(START + at, "a", user) for at, user in enumerate([2, 2, 3, 3, 4, 4, 1])))
    block = read(engine, START + HOUR)
    assert keys(block, "buyers", "user") == [key_integer(user) for user in (2, 3, 4)]
    assert float(block.numbers["buyer_count"][0]) == 1.0


def test_vectors_are_as_of_the_read() -> None:
    engine = after(described("a", embedding=[1.0, 2.0, 3.0], brand="x"))
    engine.apply(ENCODER.encode_events([{"_type": "brands", "_time": START, "brand": "x", "look": [0.5, -1.0]}]))
    block = read(engine, START)
    assert block.vectors["embedding"].dtype == np.float32
    assert block.vectors["embedding"].tolist() == [[1.0, 2.0, 3.0]]
    assert block.vectors["look"].tolist() == [[0.5, -1.0]]
    assert np.isnan(block.vectors["taste"]).all() and block.vectors["taste"].shape == (1, 2)
    engine.apply(ENCODER.encode_events([described("a")]))
    assert np.isnan(read(engine, START).vectors["embedding"]).all()


def test_a_bias_input_is_what_the_plan_fixes() -> None:
    block = read(after(), START, position=9.0, page=2)
    assert float(block.numbers["position"][0]) == 1.0
    assert int(block.categories["page"][0]) == key_integer(0)


def test_functions_see_what_was_read() -> None:
    engine = after(described("a", "red", price=3.0), click(START), order(START, 5.0))
    block = read(engine, START)
    assert float(block.numbers["spread"][0]) == 2.0
    assert int(block.categories["same_colour"][0]) == key_integer(1)
