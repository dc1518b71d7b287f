"""Order within the lateness does not show once it has passed; what is let go had nothing left to say."""

from __future__ import annotations

import random
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import declare as bb
from bowerbird.errors import StorageError
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.engine import NativeEngine, StateOptions
from bowerbird.plan.spec import Feature, Plan
from tests import shop_more
from tests.conformance.compare import MINUTE, START, part
from tests.conformance.logs import Record
from tests.conformance.states import SHOPS, Shop, applied, assert_all_equal, latest, wide_log

shops = pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())
LATENESS = {"click": 60 * MINUTE, "order": 1440 * MINUTE}


def aggregates_of(plan: Plan, feature: Feature) -> set[int]:
    """The aggregates that a feature is made of."""
    found, nodes = set(), [feature.node]
    while nodes:
        node = plan.nodes[nodes.pop()]
        nodes += node.inputs
        found |= {node.aggregate} - {-1}
    return found


def order_free(shop: Shop) -> Shop:
    """The shop's features that no order of arrival changes: without a time to live, without a top that overflows."""
    bound = {at for at, each in enumerate(shop.plan.aggregates) if each.ttl or each.kind == "top"}
    kept = [feature for feature in shop.plan.features if not aggregates_of(shop.plan, feature) & bound]
    assert len(kept) > 20
    return Shop.of(msgspec.structs.replace(shop.plan, features=kept))


def tables_and_events(log: list[Record]) -> tuple[list[Record], list[Record]]:
    """A log cut in two: attributes, which hold from their arrival on, and what happens, in order of time."""
    tables = [record for record in log if record["_type"] in ("users", "items", "brands")]
    events = [
        record for record in log if record["_type"] in ("exposure", "click", "order") and "_retracts" not in record
    ]
    return tables, sorted(events, key=_time)


def _time(record: Record) -> int:
    assert isinstance(record["_time"], int)
    return record["_time"]


def shuffled(events: list[Record], seed: int) -> list[Record]:
    """Events in order of arrival, each up to its type's lateness after it happened."""
    chance = random.Random(seed)
    return sorted(events, key=lambda event: _time(event) + chance.randint(0, LATENESS.get(str(event["_type"]), 0)))


@shops
@pytest.mark.parametrize("seed", range(6))
def test_order_within_the_lateness_does_not_show(shop: Shop, seed: int) -> None:
    shop = order_free(shop)
    tables, events = tables_and_events(wide_log(20 + seed, 4000))
    arrived = shuffled(events, seed)
    assert sum(a is not b for a, b in zip(arrived, events, strict=True)) > len(events) / 2
    in_order = shop.encoder.encode_events(tables + events)
    late = shop.encoder.encode_events(tables + arrived)
    looked = shop.look(applied(shop.plan, late), latest(late) + 100 * MINUTE)
    assert_all_equal(looked, shop.look(applied(shop.plan, in_order), latest(late) + 100 * MINUTE))


@settings(max_examples=40)
@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_bursts_of_few_values_in_any_order_are_the_same(log_seed: int, order_seed: int) -> None:
    """With gaps longer than any time to live between bursts, and room in every top, all aggregates are order-free."""
    shop, chance = SHOPS["more"], random.Random(log_seed)
    bursts: list[list[Record]] = []
    for burst in range(4):
        start = START + burst * 3 * 1440 * MINUTE
        events: list[Record] = []
        for _ in range(chance.randrange(25)):
            user = chance.randrange(1, 3)
            values = {"user": user, "item": "ab"[user % 2], "page": 1, "amount": chance.uniform(0, 9), "coupon": "x"}
            events.append(
                {"_type": chance.choice(["click", "order"]), "_time": start + chance.randrange(20) * MINUTE, **values}
            )
        bursts.append(sorted(events, key=_time))
    order = random.Random(order_seed)
    tables: list[Record] = [
        {"_type": "items", "_time": START, "item": item, "brand": item, "colour": item, "price": 1.0} for item in "ab"
    ]
    in_order = shop.encoder.encode_events([*tables, *(event for burst in bursts for event in burst)])
    mixed = [event for burst in bursts for event in order.sample(burst, len(burst))]
    late = shop.encoder.encode_events([*tables, *mixed])
    for minutes in (0, 30, 61, 5000):
        time = latest(late) + minutes * MINUTE
        assert_all_equal(
            _read_at(shop, applied(shop.plan, late), time), _read_at(shop, applied(shop.plan, in_order), time)
        )


def _read_at(shop: Shop, engine: NativeEngine, time: int) -> list[FeatureBlock]:
    items = shop.encoder.encode_items(["a", "b"])
    return [engine.read(time, shop.encoder.encode_request(user, {}), items) for user in (1, 2)]


PASSING = [
    *("smallest_1d", "largest_1h", "largest_ttl", "spent", "mean_ttl", "clicks_ttl", "since_ttl", "since_first_ttl"),
    *("last_colour", "fresh_brands", "session", "pair_history", "pair_largest", "all_spread"),
]


def compiled(features: dict[str, object]) -> Shop:
    """The second shop with these features alone."""
    project = bb.Project(
        name="passing",
        exposure=shop_more.exposure,
        user=shop_more.user,
        item=shop_more.item,
        events=[shop_more.click, shop_more.order],
        tables=[shop_more.users, shop_more.items, shop_more.brands],
        features=features,  # type: ignore[arg-type]
    )
    return Shop.of(compile_plan(project))


@pytest.mark.parametrize("versioned", [False, True])
def test_letting_go_changes_no_value(versioned: bool) -> None:
    """Where every aggregate of a key has an end, its state goes; late events up to ``expire``'s time may follow."""
    shop = compiled({name: shop_more.FEATURES[name] for name in PASSING})
    batch = shop.encoder.encode_events(wide_log(30, 6000))
    plain, expiring = NativeEngine(shop.plan), NativeEngine(shop.plan, StateOptions(versioned=versioned))
    gone = 0
    for first in range(0, len(batch), 500):
        for engine in (plain, expiring):
            engine.apply(part(batch, first, first + 500))
        now = int(batch.times[: first + 500].max())
        gone += expiring.state.expire(now - 240 * MINUTE)
        assert_all_equal(_ahead(shop, expiring, now), _ahead(shop, plain, now))
    assert gone > 100
    assert sum(expiring.usage().family_keys.values()) < sum(plain.usage().family_keys.values()) - 50


def _ahead(shop: Shop, engine: NativeEngine, now: int) -> list[FeatureBlock]:
    return shop.look(engine, now + 90 * MINUTE)


def test_what_decays_never_goes_by_itself() -> None:
    """However little is left of it, it would still be read."""
    shop = compiled({"decayed": bb.count(shop_more.click, by=shop_more.item, window=bb.Decay("10m"))})
    click: Record = {"_type": "click", "_time": START, "user": 1, "item": "a", "page": 1}
    engine = applied(shop.plan, shop.encoder.encode_events([click] * 1000))
    before = shop.look(engine, START + 5000 * MINUTE)
    assert engine.state.expire(START + 5000 * MINUTE) == 0
    assert_all_equal(shop.look(engine, START + 5000 * MINUTE), before)


@pytest.mark.parametrize("full", ["refuse", "expire"])
@pytest.mark.parametrize("versioned", [False, True])
def test_a_full_state_goes_on_answering(full: Literal["refuse", "expire"], versioned: bool) -> None:
    shop = SHOPS["more"]
    batch = shop.encoder.encode_events(wide_log(31, 6000))
    engine = NativeEngine(shop.plan, StateOptions(budget=1 << 20, full=full, versioned=versioned))
    for first in range(0, len(batch), 500):
        engine.apply(part(batch, first, first + 500))
        shop.look(engine, latest(batch))
    usage = engine.usage()
    assert engine.lsn == len(batch)
    assert usage.memory <= 1 << 20
    assert (usage.refused if full == "refuse" else usage.expired) > 0


@shops
def test_a_full_state_says_so(shop: Shop) -> None:
    batch = shop.encoder.encode_events(wide_log(32, 6000))
    with pytest.raises(StorageError, match="larger budget"):
        NativeEngine(shop.plan, StateOptions(budget=1 << 19)).apply(batch)
