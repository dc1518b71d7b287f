"""Snapshots taken while the writer goes on, and states that other processes read through a file."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bowerbird.errors import CorruptionError, StorageError
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.engine import FeatureState, NativeEngine, StateOptions
from bowerbird.plan.read import PlanReader
from tests.conformance.compare import MINUTE, assert_equal, part
from tests.conformance.logs import Record, records
from tests.conformance.states import SHOPS, Shop, applied, applied_in_pieces, assert_all_equal, latest, wide_log

shops = pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS.keys())
ITEMS = ["a", "b", "c", "i7", "i20"]
Sample = tuple[int, int, int, FeatureBlock]
"""Position, time, user and what was read."""


@shops
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records(), st.integers(0, 40), st.booleans(), st.booleans())
def test_a_restored_state_goes_on(
    shop: Shop, tmp_path: Path, log: list[Record], cut: int, before: bool, after: bool
) -> None:
    batch = shop.encoder.encode_events(log)
    cut = min(cut, len(batch))
    state = FeatureState(shop.plan, StateOptions(versioned=before))
    state.apply(part(batch, 0, cut))
    state.snapshot(tmp_path / "snapshot")
    back = FeatureState(shop.plan, StateOptions(versioned=after))
    back.restore(tmp_path / "snapshot")
    assert back.lsn == back.restored_to == cut
    back.apply(part(batch, cut, len(batch)))
    looked = shop.look(PlanReader(shop.plan, [back]), latest(batch))
    assert_all_equal(looked, shop.look(applied(shop.plan, batch), latest(batch)))


@shops
def test_a_snapshot_beside_the_writer_and_its_tail(shop: Shop, tmp_path: Path) -> None:
    """Shards are at several positions; what the log has from the first of them on makes them one."""
    batch = shop.encoder.encode_events(wide_log(3, 12_000))
    whole = shop.look(applied(shop.plan, batch), latest(batch))
    state = FeatureState(shop.plan, StateOptions(versioned=True))
    writer = threading.Thread(target=_write, args=(state, batch))
    writer.start()
    fuzzy = 0
    while writer.is_alive():
        state.snapshot(tmp_path / "snapshot")
        back = FeatureState(shop.plan)
        back.restore(tmp_path / "snapshot")
        fuzzy += back.restored_to > back.lsn
        applied_in_pieces(back, batch, [back.restored_to])
        assert_all_equal(shop.look(PlanReader(shop.plan, [back]), latest(batch)), whole)
    writer.join()
    assert fuzzy > 0


def _write(state: FeatureState, batch: RecordBatch) -> None:
    for first in range(0, len(batch), 20):
        state.apply(part(batch, first, first + 20))
        time.sleep(0.001)


def test_damaged_snapshots_are_corruption(tmp_path: Path) -> None:
    shop = SHOPS["more"]
    file = tmp_path / "snapshot"
    applied(shop.plan, shop.encoder.encode_events(wide_log(4, 200))).state.snapshot(file)
    whole = file.read_bytes()
    for at in [*range(16), len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        with pytest.raises(CorruptionError):
            FeatureState(shop.plan).restore(file)
        file.write_bytes(whole[:at])
        with pytest.raises(CorruptionError):
            FeatureState(shop.plan).restore(file)
    file.write_bytes(whole)
    with pytest.raises(CorruptionError, match="another plan"):
        FeatureState(SHOPS["shop"].plan).restore(file)
    with pytest.raises(StorageError):
        FeatureState(shop.plan).restore(tmp_path / "none")
    FeatureState(shop.plan).restore(file)


def _shared(shop: Shop, path: Path) -> FeatureState:
    return FeatureState(shop.plan, StateOptions(path=str(path), budget=128 << 20))


def _look(name: str, path: Path, time: int, found: SimpleQueue[list[FeatureBlock]]) -> None:
    state = FeatureState.attach(path)
    found.put(SHOPS[name].look(PlanReader(state.plan, [state]), time))


@pytest.mark.parametrize("name", SHOPS)
def test_other_processes_read_the_same(name: str, tmp_path: Path) -> None:
    shop = SHOPS[name]
    batch = shop.encoder.encode_events(wide_log(5, 3000))
    state = _shared(shop, tmp_path / "state")
    applied_in_pieces(state, batch, range(0, len(batch), 100))
    context = multiprocessing.get_context("spawn")
    found: SimpleQueue[list[FeatureBlock]] = context.SimpleQueue()
    process = context.Process(target=_look, args=(name, tmp_path / "state", latest(batch), found))
    process.start()
    theirs = found.get()
    process.join()
    assert_all_equal(theirs, shop.look(applied(shop.plan, batch), latest(batch)))


def _sample(path: Path, seed: int, ready: Event, done: Event, found: SimpleQueue[list[Sample]]) -> None:
    state, shop, chance = FeatureState.attach(path), SHOPS["more"], np.random.default_rng(seed)
    reader, samples = PlanReader(state.plan, [state]), dict[int, Sample]()
    candidates = shop.encoder.encode_items(ITEMS)
    ready.set()
    while not done.is_set():
        user, at = int(chance.integers(1, 9)), int(chance.integers(0, 10_000)) * MINUTE + 1_700_000_000_000_000
        block = reader.read(at, shop.encoder.encode_request(user, {}), candidates)
        samples[block.lsn] = (block.lsn, at, user, block)
    chosen = list(samples.values())
    found.put(chosen[:: max(1, len(chosen) // 60)])


def test_readers_beside_the_writer_see_one_position(tmp_path: Path) -> None:
    """What other processes read while records stream in equals a fresh replay to the position they say."""
    shop = SHOPS["more"]
    batch = shop.encoder.encode_events(wide_log(6, 8000))
    state = _shared(shop, tmp_path / "state")
    context = multiprocessing.get_context("spawn")
    done, found, readers = context.Event(), context.SimpleQueue(), []
    for seed in (1, 2):
        ready = context.Event()
        readers.append(context.Process(target=_sample, args=(tmp_path / "state", seed, ready, done, found)))
        readers[-1].start()
        ready.wait()
    _write(state, batch)
    done.set()
    samples: list[Sample] = [*found.get(), *found.get()]
    for process in readers:
        process.join()
    assert len({lsn for lsn, *_ in samples}) > 20
    fresh, candidates = NativeEngine(shop.plan), shop.encoder.encode_items(ITEMS)
    for lsn, at, user, block in sorted(samples, key=lambda sample: sample[0]):
        fresh.apply(part(batch, fresh.lsn, lsn))
        assert_equal(block, fresh.read(at, shop.encoder.encode_request(user, {}), candidates))


def test_what_is_no_state_is_not_attached(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"x" * 20_000, b"\0" * 100_000]):
        file = tmp_path / str(number)
        file.write_bytes(content)
        with pytest.raises(CorruptionError):
            FeatureState.attach(file)
    with pytest.raises(CorruptionError):
        FeatureState.attach(tmp_path / "none")
