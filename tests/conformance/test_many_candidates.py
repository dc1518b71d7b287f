"""A request of many candidates reads as its twin does, on every instruction set."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import _native
from bowerbird.plan.engine import StateOptions
from bowerbird.plan.reference import ReferenceEngine
from tests.conformance.compare import MINUTE, assert_equal
from tests.conformance.states import SHOPS, Shop, applied, latest, wide_log

ITEMS = [*"abcde", *(f"i{number}" for number in range(90)), "never"]
SIZES = [1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1100]


@pytest.fixture(params=_native.row_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.use_instruction_set(request.param)
    yield request.param
    _native.use_instruction_set("")


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())
@settings(max_examples=6)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from(SIZES),
    minutes=st.sampled_from([-3000, -90, 0, 1, 44, 200, 3000]),
    versioned=st.booleans(),
)
def test_many_candidates_equal_the_twin(shop: Shop, seed: int, size: int, minutes: int, versioned: bool) -> None:
    batch = shop.encoder.encode_events(wide_log(seed, 400))
    twin = ReferenceEngine(shop.plan)
    twin.apply(batch)
    chance = random.Random(seed)
    candidates = shop.encoder.encode_items(chance.choices(ITEMS, k=size))
    request = shop.encoder.encode_request(chance.choice([1, 2, 999]), {"page": 1, "position": 2.0})
    time = latest(batch) + minutes * MINUTE
    native = applied(shop.plan, batch, StateOptions(versioned=versioned))
    assert_equal(native.read(time, request, candidates), twin.read(time, request, candidates))


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruction set mmx"):
        _native.use_instruction_set("mmx")
