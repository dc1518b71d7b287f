"""Served tables: files in three formats, changes over them, damage."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.embedding.served_table import ROW_FORMATS, ServedTable, TableChange, rounded, write_served_table
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.kernels.pair_rows import StoredRows

WIDTH = 5
KEYS = np.arange(1, 301, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
NONE = np.zeros(0, np.uint64)


def vectors(count, seed=0, width=WIDTH):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def table(path, format="fp32", keys=KEYS):
    write_served_table(path, keys, vectors(len(keys) + 2), format)
    return ServedTable.open(path, verify=True)


class Twin:
    """What a served table is: a dictionary, and two rows for the rest."""

    def __init__(self, keys, rows):
        self.reserved = rows[:2]
        self.rows = dict(zip(keys.tolist(), rows[2:], strict=True))

    def change(self, change):
        for key in change.removed.tolist():
            self.rows.pop(key, None)
        self.rows |= dict(zip(change.keys.tolist(), change.vectors, strict=True))
        self.reserved = self.reserved if change.reserved is None else change.reserved

    def take(self, keys):
        missing, unknown = self.reserved
        return np.array([missing if key == 0 else self.rows.get(key, unknown) for key in keys.tolist()])


@pytest.mark.parametrize("format", ROW_FORMATS)
@pytest.mark.parametrize("width", [1, 5, 16, 33])
def test_rows_come_back_as_their_format_gives_them(tmp_path, format, width):
    rows = vectors(len(KEYS) + 2, width=width)
    rows[7] = 0
    write_served_table(tmp_path / "t", KEYS, rows, format)
    served = ServedTable.open(tmp_path / "t")
    assert (served.format, served.dimension, len(served)) == (format, width, len(KEYS))
    found = served.find(np.concatenate([[np.uint64(0)], [np.uint64(5)], KEYS]))
    assert found.tolist() == list(range(len(rows)))
    expected = StoredRows.pack(rows, format).unpacked(np.arange(len(rows)))
    assert np.array_equal(served.take(found), expected)
    assert np.array_equal(rounded(rows, format), expected)
    keys, places = served.file_keys()
    assert np.array_equal(keys, KEYS) and np.array_equal(places, np.arange(2, len(rows)))


def test_a_row_that_is_not_finite_stays_so_in_int8(tmp_path):
    rows = vectors(3)
    rows[2, 1] = np.inf
    write_served_table(tmp_path / "t", KEYS[:1], rows, "int8")
    assert np.isnan(ServedTable.open(tmp_path / "t").take(np.array([2]))).all()


PLACES = st.lists(st.integers(0, 330), max_size=40)


@settings(max_examples=30)
@given(st.lists(st.tuples(PLACES, PLACES, st.booleans()), max_size=12))
def test_changes_are_those_of_a_dictionary(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("served") / "t"
    pool = np.concatenate([KEYS, np.arange(1, 32, dtype=np.uint64)])
    served, twin = table(path), Twin(KEYS, vectors(len(KEYS) + 2))
    asked = np.concatenate([pool, [np.uint64(0)]])
    for number, (changed, gone, reserved) in enumerate(steps):
        keys = np.unique(pool[np.array(changed, int)]) if changed else NONE
        rows = vectors(len(keys), number + 1)
        removed = np.setdiff1d(pool[np.array(gone, int)], keys) if gone else NONE
        change = TableChange(keys, rows, removed, vectors(2, 100 + number) if reserved else None)
        before = served, twin.take(asked)
        served = served.with_change(change)
        twin.change(change)
        assert np.array_equal(served.take(served.find(asked)), twin.take(asked))
        assert np.array_equal(before[0].take(before[0].find(asked)), before[1])


def test_a_changed_row_has_a_number_that_none_had_before_even_where_old_rows_are_let_go(tmp_path):
    served = table(tmp_path / "t")
    seen = set(served.find(KEYS).tolist())
    for number in range(30):
        served = served.with_change(TableChange(KEYS, vectors(len(KEYS), number)))
        rows = set(served.find(KEYS).tolist())
        assert not rows & seen
        seen |= rows
    assert np.array_equal(served.take(served.find(KEYS)), vectors(len(KEYS), 29))
    assert served.changed_keys == len(KEYS)
    assert served.changed_bytes < 8 * 1024 * WIDTH * 4 + (1 << 16)


def test_two_tables_made_of_the_same_one_do_not_write_over_each_other(tmp_path):
    common = table(tmp_path / "t").with_change(TableChange(KEYS[:3], vectors(3, 1)))
    first = common.with_change(TableChange(KEYS[3:5], vectors(2, 2)))
    second = common.with_change(TableChange(KEYS[3:5], vectors(2, 3)))
    assert np.array_equal(first.take(first.find(KEYS[:5])), np.concatenate([vectors(3, 1), vectors(2, 2)]))
    assert np.array_equal(second.take(second.find(KEYS[:5])), np.concatenate([vectors(3, 1), vectors(2, 3)]))


def test_readers_beside_changes_see_whole_rows_of_one_version(tmp_path):
    """Every row of version n is n throughout: a mixture shows at once."""
    write_served_table(tmp_path / "t", KEYS, np.zeros((len(KEYS) + 2, 64), np.float32))
    current = [ServedTable.open(tmp_path / "t")]
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            served = current[0]
            rows = served.take(served.find(KEYS))
            if len(np.unique(rows)) != 1:
                wrong.append(rows)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 200):
        current[0] = current[0].with_change(TableChange(KEYS, np.full((len(KEYS), 64), number, np.float32)))
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_damage_is_found(tmp_path):
    path = tmp_path / "t"
    table(path)
    data = path.read_bytes()
    for cut in (0, 100, 5000, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(CorruptionError):
            ServedTable.open(path)
    changed = bytearray(data)
    changed[-1] ^= 1
    path.write_bytes(bytes(changed))
    with pytest.raises(CorruptionError, match="damaged"):
        ServedTable.open(path).verify()
    with pytest.raises(CorruptionError, match="damaged"):
        ServedTable.open(path, verify=True)
    with pytest.raises(NotFoundError):
        ServedTable.open(tmp_path / "absent")


def test_what_makes_no_sense_is_refused(tmp_path):
    path = tmp_path / "t"
    twice, missing = np.array([7, 7], np.uint64), np.zeros(1, np.uint64)
    for keys, rows in ((KEYS[:2], vectors(3)), (twice, vectors(4)), (missing, vectors(3))):
        with pytest.raises(InputError):
            write_served_table(path, keys, rows)
    assert not list(tmp_path.iterdir())
    served = table(path)
    for rows in ([-1], [len(KEYS) + 2]):
        with pytest.raises(InputError, match="row"):
            served.take(np.array(rows))
    with pytest.raises(InputError, match="missing key"):
        served.with_change(TableChange(np.zeros(1, np.uint64), vectors(1)))


READER = """
import sys
import numpy as np
from bowerbird.embedding.served_table import ServedTable
served = ServedTable.open(sys.argv[1])
served.take(np.arange(len(served) + 2))
print("ready", flush=True)
sys.stdin.readline()
"""


def mapped_kilobytes(pid, path):
    """Return Rss, Pss and private dirty kilobytes of a process's mapping of a file."""
    lines = Path(f"/proc/{pid}/smaps").read_text().split("\n")
    (start,) = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    sizes = [line.split() for line in lines[start + 1 : start + 20] if line.endswith("kB")]
    numbers = {name.rstrip(":"): int(size) for name, size, _ in sizes}
    return numbers["Rss"], numbers["Pss"], numbers["Private_Dirty"]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's smaps")
def test_the_second_process_costs_no_second_copy(tmp_path):
    path = tmp_path / "large"
    keys = np.arange(1, 100_001, dtype=np.uint64)
    write_served_table(path, keys, np.ones((len(keys) + 2, 64), np.float32))
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout.readline() == b"ready\n"
        sizes = [mapped_kilobytes(reader.pid, path) for reader in readers]
    finally:
        for reader in readers:
            reader.communicate(b"\n")
    rows = 64 * 4 * len(keys) // 1024
    for resident, proportional, dirty in sizes:
        assert resident >= rows and dirty == 0
        assert proportional <= 0.6 * resident


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from bowerbird.embedding.served_table import ServedTable
used = next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + (12 << 20),) * 2)
served = ServedTable.open(Path(sys.argv[1]))
try:
    copy = np.ones(served.file_bytes, np.uint8)
except MemoryError:
    total = sum(float(served.take(np.arange(first, first + 1000)).sum()) for first in range(0, len(served), 1000))
    print(total)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's limits")
def test_a_table_may_be_larger_than_the_memory_that_a_process_is_allowed(tmp_path):
    path = tmp_path / "large"
    keys = np.arange(1, 99_999, dtype=np.uint64)
    write_served_table(path, keys, np.ones((len(keys) + 2, 64), np.float32))
    result = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, check=True)
    assert float(result.stdout) == 64 * (len(keys) + 2)
