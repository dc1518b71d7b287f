"""Deltas: one after the other, repeated, out of order, torn, of other bundles, and publishers that are killed."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bowerbird.bundles import read_bundle
from bowerbird.bundles.deltas import DeltaLog, changes_between, publish_delta, tables_at
from bowerbird.bundles.live_tables import tables_of, with_tables
from bowerbird.embedding.served_table import TableChange
from bowerbird.embedding.table import Table
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.kernels.table_config import TableConfig
from bowerbird.plan.block_rows import take_rows
from bowerbird.serving.delta_follower import DeltaFollower
from tests.bundles.delta_steps import ITEMS, change
from tests.training.synthetic import World

ROOT = Path(__file__).parents[2]
ENOUGH = 1 << 30


@pytest.fixture
def bundle(make_bundle, tmp_path):
    return make_bundle(tmp_path / "home" / "1")


@pytest.fixture
def log(bundle):
    return DeltaLog(bundle.folder, bundle.digest)


def item_rows(tables):
    table = tables.tables["item"]
    return table.take(table.find(ITEMS))


def test_deltas_are_applied_in_order_and_a_repeated_one_changes_nothing(bundle, log):
    tables = bundle.load_collection()
    for number in (1, 2, 3):
        assert publish_delta(bundle, change(number)).sequence == number
        tables = log.apply(tables, log.read(number))
        assert (tables.sequence, set(item_rows(tables).ravel())) == (number, {float(number)})
    for number in (1, 2, 3):
        assert log.apply(tables, log.read(number)) is tables


def test_one_that_comes_too_early_or_belongs_elsewhere_is_refused_and_says_why(bundle, log, make_bundle, tmp_path):
    for number in (1, 2):
        publish_delta(bundle, change(number))
    tables = bundle.load_collection()
    with pytest.raises(InputError, match="Delta 2 comes before delta 1"):
        log.apply(tables, log.read(2))
    other = DeltaLog(bundle.folder, "f" * 64)
    with pytest.raises(InputError, match="Delta 1 belongs to the bundle"):
        other.apply(tables, log.read(1))
    elsewhere = make_bundle(tmp_path / "elsewhere" / "1")
    publish_delta(elsewhere, change(7))
    publish_delta(elsewhere, change(8))
    first = log.apply(tables, log.read(1))
    with pytest.raises(InputError, match="goes on from another delta 1"):
        log.apply(first, DeltaLog(elsewhere.folder, bundle.digest).read(2))


def test_a_torn_or_damaged_file_is_found(bundle, log):
    publish_delta(bundle, change(1))
    data = log.file(1).read_bytes()
    for damaged in (b"", data[:20], data[:-1], data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        log.file(1).write_bytes(damaged)
        with pytest.raises(CorruptionError, match="damaged or not whole"):
            log.read(1)
    log.file(2).write_bytes(data)
    with pytest.raises(CorruptionError, match="holds delta 1"):
        log.read(2)
    with pytest.raises(NotFoundError):
        log.read(3)


def test_what_a_version_does_not_have_is_not_published(bundle, log):
    with pytest.raises(InputError, match=r"no table 'itm'.*item"):
        publish_delta(bundle, {"itm": change(1)["item"]})
    narrow, missing = np.zeros((len(ITEMS), 3), np.float32), np.zeros((len(ITEMS), 16), np.float32)
    with pytest.raises(InputError, match="rows of shape"):
        publish_delta(bundle, {"item": TableChange(ITEMS, narrow)})
    with pytest.raises(InputError, match="not finite"):
        publish_delta(bundle, {"item": TableChange(ITEMS, missing + np.nan)})
    with pytest.raises(InputError, match="missing key"):
        publish_delta(bundle, {"item": TableChange(np.zeros_like(ITEMS), missing)})
    assert not log.folder.exists()


def test_scores_after_deltas_are_those_of_a_model_that_never_had_other_rows(bundle, log):
    """What is kept of items must not outlive the rows that it was made of, and what takes its place is there before."""
    one_request, *_ = World().draw(30)
    block = take_rows(one_request, np.arange(30))
    for name in [feature.name for feature in bundle.plan.features if feature.stage == "request"]:
        for columns in (block.categories, block.numbers):
            if name in columns:
                columns[name] = columns[name][:1]
        if name in block.sequences:
            block.sequences[name] = take_rows(one_request, np.zeros(1, np.int64)).sequences[name]
    block.categories["item"] = ITEMS[:30]
    random = np.random.default_rng(0)
    for _ in range(4):
        publish_delta(bundle, {"item": TableChange(ITEMS[:20], random.normal(size=(20, 16)).astype(np.float32))})
    served = bundle.load_model()
    before = served.logits(block)["click"]
    misses = served.items.misses
    for number in range(1, 5):
        served = with_tables(served, log.apply(tables_of(served), log.read(number)))
        fresh = bundle.load_model()
        fresh = with_tables(fresh, tables_at(bundle, tables_of(fresh), number))
        now = served.logits(block)["click"]
        assert np.array_equal(now, fresh.logits(block)["click"])
        assert not np.array_equal(now, before)
        before = now
    assert served.items.misses == misses


def test_the_difference_to_other_tables_is_what_makes_them_equal(bundle, log):
    publish_delta(bundle, change(3))
    tables = tables_at(bundle, bundle.load_collection(), 1)
    wanted = {}
    for name, table in tables.tables.items():
        keys = table.known_keys()
        wanted[f"{name}.keys"] = keys
        wanted[f"{name}.rows"] = table.take(np.concatenate([[0, 1], table.find(keys)]))
    assert changes_between(tables, wanted) == {}
    fresh = np.array([5, 6], np.uint64)
    wanted["item.keys"] = np.concatenate([wanted["item.keys"][3:], fresh])
    rows = wanted["item.rows"]
    wanted["item.rows"] = np.concatenate([rows[:2] + 1, rows[5:], np.ones((2, 16), np.float32)])
    changes = changes_between(tables, wanted)
    assert list(changes) == ["item"]
    assert (sorted(changes["item"].keys.tolist()), len(changes["item"].removed)) == ([5, 6], 3)
    publish_delta(bundle, changes)
    tables = tables_at(bundle, tables, 2)
    assert changes_between(tables, wanted) == {}


def test_a_training_tables_delta_becomes_a_change(tmp_path):
    table = Table(TableConfig(dimension=16, precision="float16"))
    table.put(ITEMS, np.ones((len(ITEMS), 16), np.float32))
    table.snapshot(tmp_path / "whole")
    table.put(ITEMS[:3], np.full((3, 16), 2, np.float32))
    table.remove(ITEMS[5:7])
    table.delta(tmp_path / "delta", 1)
    found = TableChange.of_delta(tmp_path / "delta")
    assert sorted(found.keys.tolist()) == sorted(ITEMS[:3].tolist())
    assert (found.vectors == 2).all() and sorted(found.removed.tolist()) == sorted(ITEMS[5:7].tolist())
    assert np.array_equal(found.reserved, table.take(np.arange(2)))
    with pytest.raises(InputError, match="not a delta"):
        TableChange.of_delta(tmp_path / "whole")


def test_a_follower_waits_for_what_is_missing_and_goes_on(bundle, log, monkeypatch):
    monkeypatch.setattr("bowerbird.serving.delta_follower._GAP_SECONDS", 0.0)
    for number in (1, 2, 3):
        publish_delta(bundle, change(number))
    kept = log.file(2).read_bytes()
    log.file(2).unlink()
    follower = DeltaFollower(bundle, ENOUGH)
    tables = follower.followed(bundle.load_collection())
    assert tables.sequence == 1
    assert follower.followed(tables) is tables
    assert follower.problem == "Delta 3 waits: delta 2 is not there."
    log.file(2).write_bytes(kept[:50])
    assert follower.followed(tables) is tables and "not whole" in follower.problem
    assert follower.followed(tables) is tables
    log.file(2).write_bytes(kept)
    assert follower.followed(tables).sequence == 3
    assert follower.problem == "" and follower.staleness >= 0


def test_a_follower_refuses_what_would_take_more_memory_than_allowed(bundle, log):
    publish_delta(bundle, change(1))
    tables = bundle.load_collection()
    follower = DeltaFollower(bundle, 1000)
    assert follower.followed(tables) is tables
    assert "delta 0 goes on" in follower.problem and "delta_memory" in follower.problem


def test_a_publisher_that_is_killed_leaves_whole_deltas_alone(bundle, log):
    for _ in range(3):
        command = [sys.executable, "-m", "tests.bundles.delta_steps", str(bundle.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        for _ in range(5):
            last = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        assert log.sequences() == list(range(1, len(log.sequences()) + 1))
        assert len(log.sequences()) >= last
        tables_at(bundle, bundle.load_collection(), len(log.sequences()))
    assert publish_delta(bundle, change(1)).sequence == len(log.sequences())


def test_two_publishers_take_turns(bundle, log):
    threads = [threading.Thread(target=lambda: [publish_delta(bundle, change(1)) for _ in range(10)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tables_at(bundle, bundle.load_collection(), 20).sequence == 20


def test_deltas_of_a_bundle_that_is_gone_stay_beside_it_and_fit_no_other(bundle, log, make_bundle, tmp_path):
    publish_delta(bundle, change(1))
    folder = bundle.folder
    shutil.rmtree(folder)
    again = make_bundle(folder)
    assert read_bundle(folder).digest == again.digest, "the same files are the same bundle"
    assert DeltaFollower(again, ENOUGH).followed(again.load_collection()).sequence == 1
