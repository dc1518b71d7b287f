"""A bulk replay gives the same bits as the ordered one, and leaves the same state."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.engine import NativeEngine, StateOptions
from tests.conformance.compare import MINUTE, START, assert_equal, reads_of
from tests.conformance.logs import Record, records
from tests.conformance.states import (
    SHOPS,
    Shop,
    assert_all_equal,
    end_to_end,
    latest,
    part,
    wide_log,
)

shops = pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())
cuts = st.lists(st.integers(1, 40), max_size=5)


def reads_between(reads: ReadBatch, first: int, last: int, whole: bool) -> ReadBatch:
    """The reads from position ``first`` on to below ``last``, with those at ``last`` where it is the log's end."""
    begin = int(np.searchsorted(reads.positions, first, "left"))
    end = int(np.searchsorted(reads.positions, last, "right" if whole else "left"))
    slots = np.ascontiguousarray(reads.slots[:, begin:end])
    return ReadBatch(reads.positions[begin:end], reads.times[begin:end], slots)


def replayed_in_bulk(
    engine: NativeEngine, batch: RecordBatch, reads: ReadBatch, cuts: list[int], added: int, rows: int
) -> FeatureBlock:
    """Bulk replays of a log cut where told, each added in pieces of ``added`` records; their rows end to end."""
    blocks = []
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(batch)}), len(batch)]
    for first, last in pairwise(bounds):
        bulk = engine.bulk()
        for start in range(first, last, added):
            stop = min(last, start + added)
            bulk.add(part(batch, start, stop), reads_between(reads, start, stop, stop == len(batch)))
        bulk.run()
        blocks += [block for _, block in bulk.blocks(rows)]
    return replace(end_to_end(blocks), lsn=engine.lsn)


@shops
@settings(max_examples=80)
@given(records(), cuts, st.integers(1, 50), st.sampled_from([1, 7, 100]), st.sampled_from([1, 2, 3]))
def test_bulk_is_as_ordered(
    shop: Shop, log: list[Record], cuts: list[int], added: int, rows: int, threads: int
) -> None:
    batch = shop.encoder.encode_events(log)
    reads = reads_of(batch, shop.plan)
    if not len(reads) or not len(batch):
        return
    ordered, engine = NativeEngine(shop.plan), NativeEngine(shop.plan, StateOptions(threads=threads))
    expected = ordered.replay(batch, reads)
    assert_equal(replayed_in_bulk(engine, batch, reads, cuts, added, rows), expected)
    assert_all_equal(shop.look(engine, latest(batch)), shop.look(ordered, latest(batch)))


@shops
@pytest.mark.parametrize("threads", [1, 2])
def test_many_keys_in_bulk(shop: Shop, threads: int) -> None:
    batch = shop.encoder.encode_events(wide_log(3, 12_000))
    reads = reads_of(batch, shop.plan)
    ordered, engine = NativeEngine(shop.plan), NativeEngine(shop.plan, StateOptions(threads=threads))
    whole = ordered.replay(batch, reads)
    assert_equal(replayed_in_bulk(engine, batch, reads, [2000, 2001, 7000], 1500, 999), whole)
    assert_all_equal(shop.look(engine, latest(batch)), shop.look(ordered, latest(batch)))


def few_then_many(seed: int) -> list[Record]:
    """A log of one user and item, then of thousands: some years apart, in no order; 57 comes often and in order."""
    chance = random.Random(seed)
    log = [record for record in wide_log(seed, 4000) if "_retracts" not in record]
    for at, record in enumerate(log):
        if record["_type"] not in ("click", "order", "exposure"):
            continue
        if at < 400:
            record |= {"user": 1, "item": "a"}
        elif chance.random() < 0.3:
            record |= {"user": 57, "item": "z", "_time": START + at * MINUTE}
        else:
            years = chance.choice([-2, 0, 0, 1, 3])
            record |= {"user": chance.randrange(100, 3000), "_time": record["_time"] + years * 500_000 * MINUTE}
    return log


@shops
@pytest.mark.parametrize("keep", [True, False])
def test_few_keys_that_become_many(shop: Shop, keep: bool) -> None:
    batch = shop.encoder.encode_events(few_then_many(8))
    reads = reads_of(batch, shop.plan)
    ordered, engine = NativeEngine(shop.plan), NativeEngine(shop.plan)
    expected = ordered.replay(batch, reads)
    bulk = engine.bulk(keep=keep)
    for first, last in pairwise([0, 300, 1000, len(batch)]):
        bulk.add(part(batch, first, last), reads_between(reads, first, last, last == len(batch)))
    bulk.run()
    assert_equal(end_to_end([block for _, block in bulk.blocks(700)]), expected)
    if keep:
        assert_all_equal(shop.look(engine, latest(batch)), shop.look(ordered, latest(batch)))


@shops
def test_state_that_is_not_kept_gives_the_same_answers(shop: Shop) -> None:
    batch = shop.encoder.encode_events(wide_log(4, 8000))
    reads = reads_of(batch, shop.plan)
    bulk = NativeEngine(shop.plan).bulk(keep=False)
    bulk.add(batch, reads)
    bulk.run()
    blocks = [block for _, block in bulk.blocks(5000)]
    assert_equal(end_to_end(blocks), NativeEngine(shop.plan).replay(batch, reads))


def test_a_kept_state_is_as_large_as_an_ordered_one_at_most() -> None:
    shop = SHOPS["shop"]
    batch = shop.encoder.encode_events(wide_log(5, 8000))
    reads = reads_of(batch, shop.plan)
    ordered, engine = NativeEngine(shop.plan), NativeEngine(shop.plan)
    ordered.replay(batch, reads)
    bulk = engine.bulk()
    bulk.add(batch, reads)
    bulk.run()
    assert engine.lsn == ordered.lsn == bulk.lsn
    assert engine.usage().family_keys == ordered.usage().family_keys
    for family, size in engine.usage().family_bytes.items():
        assert 0 < size <= ordered.usage().family_bytes[family]


def test_a_state_has_one_user_at_a_time() -> None:
    shop = SHOPS["shop"]
    batch = shop.encoder.encode_events(wide_log(6, 300))
    reads = reads_of(batch, shop.plan)
    engine = NativeEngine(shop.plan)
    bulk = engine.bulk(keep=False)
    with pytest.raises(ValueError, match="has not come to its end"):
        engine.apply(batch)
    with pytest.raises(ValueError, match="has not come to its end"):
        engine.bulk()
    bulk.add(batch, reads)
    bulk.run()
    with pytest.raises(ValueError, match="used up"):
        engine.replay(batch, reads)
    for options in (StateOptions(versioned=True), StateOptions(part=0, parts=2), StateOptions(full="expire")):
        with pytest.raises(ValueError, match="not replayed in bulk"):
            NativeEngine(shop.plan, options).bulk()
