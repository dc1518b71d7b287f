"""Snapshots, deltas and mapped tables: what is written is what comes back, in order, or nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.embedding.table import MappedTable, Table
from bowerbird.errors import CorruptionError, InputError, NotFoundError, StorageError
from bowerbird.kernels.table import ReferenceTable
from bowerbird.kernels.table_config import Adagrad, Adam, Admission, TableConfig

KEYS = np.arange(60, dtype=np.uint64)


def train(table, seed, steps=4):
    random = np.random.default_rng(seed)
    for _ in range(steps):
        rows = table.admit(random.integers(0, 60, 25).astype(np.uint64))
        table.update(rows, random.normal(size=(25, table.config.dimension)).astype(np.float32))


def vectors(table):
    return table.take(table.find(KEYS))


@given(st.sampled_from(["float32", "float16", "bfloat16"]), st.integers(0, 9), st.integers(1, 2))
@settings(max_examples=15)
def test_a_restored_table_goes_on_as_the_twin_does(tmp_path_factory, precision, seed, minimum):
    path = tmp_path_factory.mktemp("table") / "snapshot"
    config = TableConfig(
        dimension=5, precision=precision, optimiser=Adam(), admission=Admission(minimum_count=minimum, filter_keys=9)
    )
    table, twin = Table(config), ReferenceTable(config)
    train(table, seed)
    train(twin, seed)
    table.snapshot(path)
    back = Table.restore(path)
    assert back.config == config and back.version == 1
    train(back, seed + 1)
    train(twin, seed + 1)
    assert back.find(KEYS).tolist() == twin.find(KEYS).tolist()
    np.testing.assert_array_equal(vectors(back), vectors(twin))


def test_a_mapped_snapshot_answers_as_its_table(tmp_path):
    table = Table(TableConfig(dimension=20))
    keys = np.random.default_rng(0).integers(1, 2**64, 200_000, dtype=np.uint64)
    rows = table.admit(keys)
    table.snapshot(tmp_path / "snapshot")
    mapped = MappedTable(tmp_path / "snapshot")
    table.update(rows[:10], np.ones((10, 20), np.float32))
    asked = np.concatenate([keys[::7], np.array([0, 12345], np.uint64)])
    found = mapped.find(asked)
    assert found.tolist() == table.find(asked).tolist() and len(mapped) == len(table) and mapped.rows == table.rows
    later = found[5:]
    np.testing.assert_array_equal(mapped.take(later), table.take(later))
    offsets = np.array([0, 3, 3, len(later)])
    np.testing.assert_array_equal(mapped.pool(later, offsets, "mean"), table.pool(later, offsets, "mean"))
    with pytest.raises(InputError):
        mapped.take(np.array([mapped.rows]))


def test_deltas_are_applied_in_order_or_not_at_all(tmp_path):
    table = Table(TableConfig(dimension=3))
    train(table, 1)
    table.snapshot(tmp_path / "base")
    replica = Table.restore(tmp_path / "base")
    paths = []
    for round_ in range(1, 4):
        train(table, 10 + round_, steps=1)
        table.remove(KEYS[round_ : round_ + 3])
        paths.append(tmp_path / f"delta.{round_}")
        table.delta(paths[-1], since=round_)
    with pytest.raises(InputError, match="apply the deltas between them first"):
        replica.apply_delta(paths[1])
    replica.apply_delta(paths[0])
    with pytest.raises(InputError, match="applied already"):
        replica.apply_delta(paths[0])
    replica.apply_delta(paths[1])
    replica.apply_delta(paths[2])
    np.testing.assert_array_equal(vectors(replica), vectors(table))
    assert replica.version == table.version == 4 and len(replica) == len(table)
    assert (replica.find(KEYS[1:4]) > 1).tolist() == (table.find(KEYS[1:4]) > 1).tolist()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_delta_of_many_keys_new_and_known(tmp_path, threads):
    table = Table(TableConfig(dimension=4), threads=threads)
    table.admit(np.arange(1, 20_001, dtype=np.uint64))
    table.snapshot(tmp_path / "base")
    replica = Table.restore(tmp_path / "base", threads=threads)
    asked = np.arange(10_001, 50_001, dtype=np.uint64)
    rows = table.admit(asked)
    table.update(rows, np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32))
    table.remove(np.arange(1, 30_001, 7, dtype=np.uint64))
    table.delta(tmp_path / "delta", since=1)
    replica.apply_delta(tmp_path / "delta")
    everything = np.arange(1, 50_001, dtype=np.uint64)
    np.testing.assert_array_equal(replica.take(replica.find(everything)), table.take(table.find(everything)))
    assert len(replica) == len(table)


def test_a_delta_holds_what_changed_alone(tmp_path):
    table = Table(TableConfig(dimension=16))
    table.admit(np.arange(1, 50_001, dtype=np.uint64))
    table.snapshot(tmp_path / "base")
    rows = table.find(np.arange(100, 110, dtype=np.uint64))
    table.update(rows, np.ones((10, 16), np.float32))
    table.delta(tmp_path / "delta", since=1)
    assert (tmp_path / "delta").stat().st_size < 40_000 < (tmp_path / "base").stat().st_size


def test_a_replica_that_went_its_own_way_is_refused(tmp_path):
    table = Table(TableConfig(dimension=3))
    train(table, 1)
    table.snapshot(tmp_path / "base")
    replica, other = Table.restore(tmp_path / "base"), Table.restore(tmp_path / "base")
    train(table, 2)
    table.delta(tmp_path / "delta", since=1)
    train(replica, 3)
    with pytest.raises(InputError, match="changed since"):
        replica.apply_delta(tmp_path / "delta")
    other.snapshot(tmp_path / "branch")
    train(table, 4)
    table.delta(tmp_path / "second", since=2)
    with pytest.raises(InputError, match="another history"):
        other.apply_delta(tmp_path / "second")
    with pytest.raises(InputError, match="take a snapshot"):
        table.delta(tmp_path / "never", since=9)
    with pytest.raises(InputError, match="not a snapshot"):
        MappedTable(tmp_path / "delta")
    with pytest.raises(InputError, match="another dimension"):
        Table.restore(tmp_path / "base", config=TableConfig(dimension=3, optimiser=Adagrad()))


@pytest.mark.parametrize("place", [3, 200, 4100, 8192, 12345, -1])
def test_damage_is_found(tmp_path, place):
    table = Table(TableConfig(dimension=3))
    train(table, 1)
    table.snapshot(tmp_path / "snapshot")
    whole = bytearray((tmp_path / "snapshot").read_bytes())
    whole[place] ^= 4
    (tmp_path / "snapshot").write_bytes(whole)
    for read in (Table.restore, MappedTable):
        with pytest.raises(CorruptionError):
            read(tmp_path / "snapshot")
    whole[place] ^= 4
    (tmp_path / "snapshot").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptionError, match="cut short"):
        MappedTable(tmp_path / "snapshot", verify=False)


def test_files_that_cannot_be_read_or_written(tmp_path):
    table = Table(TableConfig(dimension=3))
    with pytest.raises(NotFoundError):
        Table.restore(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        table.snapshot(tmp_path / "folder")
    assert table.version == 0 and [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_snapshot_and_no_row(tmp_path):
    table = Table(TableConfig(dimension=3))
    train(table, 1)
    before = vectors(table)
    (tmp_path / ".writing-snapshot").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="space"):
        table.snapshot(tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists() and table.version == 0
    np.testing.assert_array_equal(vectors(table), before)


WRITER = """
import sys, numpy as np
from pathlib import Path
from bowerbird.embedding.table import Table, TableConfig
table = Table(TableConfig(dimension=16))
for round in range(1, 10**6):
    table.admit(np.arange(round * 1000, round * 1000 + 1000, dtype=np.uint64))
    table.snapshot(Path(sys.argv[1]))
    print(round, flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_snapshot(tmp_path):
    path = tmp_path / "snapshot"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(6):
        last = int(writer.stdout.readline())
    writer.kill()
    writer.wait()
    writer.stdout.close()
    back = Table.restore(path)
    assert len(back) >= 1000 * last and len(back) % 1000 == 0
    back.snapshot(path)
    assert [left.name for left in tmp_path.iterdir()] == ["snapshot"]
