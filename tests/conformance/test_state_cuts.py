"""Threads, versions, batches and partitions do not show: every answer is the same bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.engine import NativeEngine, StateOptions
from tests.conformance.compare import assert_equal, reads_of
from tests.conformance.logs import Record, records
from tests.conformance.states import (
    SHOPS,
    Shop,
    applied,
    applied_in_pieces,
    assert_all_equal,
    latest,
    replayed_in_parts,
    replayed_in_pieces,
    wide_log,
)

shops = pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())
cuts = st.lists(st.integers(1, 40), max_size=5)


@shops
@settings(max_examples=60)
@given(records(), st.sampled_from([2, 4]))
def test_threads_do_not_show(shop: Shop, log: list[Record], threads: int) -> None:
    batch = shop.encoder.encode_events(log)
    reads = reads_of(batch, shop.plan)
    one, more = NativeEngine(shop.plan), NativeEngine(shop.plan, StateOptions(threads=threads))
    assert_equal(more.replay(batch, reads), one.replay(batch, reads))
    assert_all_equal(shop.look(more, latest(batch)), shop.look(one, latest(batch)))


@shops
@settings(max_examples=60)
@given(records(), cuts)
def test_cuts_of_a_replay_do_not_show(shop: Shop, log: list[Record], cuts: list[int]) -> None:
    batch = shop.encoder.encode_events(log)
    reads = reads_of(batch, shop.plan)
    whole = NativeEngine(shop.plan).replay(batch, reads)
    assert_equal(replayed_in_pieces(shop.plan, batch, reads, cuts), whole)


@shops
@settings(max_examples=60)
@given(records(), cuts)
def test_versions_and_batches_do_not_show(shop: Shop, log: list[Record], cuts: list[int]) -> None:
    batch = shop.encoder.encode_events(log)
    versioned = NativeEngine(shop.plan, StateOptions(versioned=True))
    applied_in_pieces(versioned, batch, cuts)
    plain = applied(shop.plan, batch)
    assert_all_equal(shop.look(versioned, latest(batch)), shop.look(plain, latest(batch)))


@shops
@settings(max_examples=40)
@given(records(), st.sampled_from([2, 16]))
def test_partitions_do_not_show(shop: Shop, log: list[Record], parts: int) -> None:
    shop = shop.without_vectors()
    batch = shop.encoder.encode_events(log)
    reads = reads_of(batch, shop.plan)
    assert_equal(replayed_in_parts(shop.plan, batch, reads, parts), NativeEngine(shop.plan).replay(batch, reads))


@shops
def test_many_keys_are_cut_the_same(shop: Shop) -> None:
    batch = shop.encoder.encode_events(wide_log(1, 12_000))
    reads = reads_of(batch, shop.plan)
    one = NativeEngine(shop.plan)
    whole = one.replay(batch, reads)
    looked = shop.look(one, latest(batch))
    for threads in (2, 4):
        more = NativeEngine(shop.plan, StateOptions(threads=threads))
        assert_equal(more.replay(batch, reads), whole)
        assert_all_equal(shop.look(more, latest(batch)), looked)
    assert_equal(replayed_in_pieces(shop.plan, batch, reads, [1, 2, 1000, 4095, 9000]), whole)
    for threads in (1, 2):
        versioned = NativeEngine(shop.plan, StateOptions(versioned=True, threads=threads))
        applied_in_pieces(versioned, batch, range(0, len(batch), 251))
        assert_all_equal(shop.look(versioned, latest(batch)), looked)


@shops
def test_many_keys_are_partitioned_the_same(shop: Shop) -> None:
    shop = shop.without_vectors()
    batch = shop.encoder.encode_events(wide_log(2, 6000))
    reads = reads_of(batch, shop.plan)
    assert_equal(replayed_in_parts(shop.plan, batch, reads, 16), NativeEngine(shop.plan).replay(batch, reads))
