"""Columns of served tables looked up together are what each table gives by itself, with changes and without."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.embedding.served_columns import ServedColumns
from bowerbird.embedding.served_table import ServedTable, TableChange, write_served_table
from bowerbird.errors import InputError

KEYS = np.arange(1, 61, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
WIDTHS = (3, 16, 5)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    made = []
    for width, format in zip(WIDTHS, ("fp32", "fp16", "int8"), strict=True):
        rows = random.normal(size=(len(KEYS) + 2, width)).astype(np.float32)
        write_served_table(folder / f"{width}.table", KEYS, rows, format)
        made.append(ServedTable.open(folder / f"{width}.table"))
    change = TableChange(KEYS[:9], random.normal(size=(9, WIDTHS[1])).astype(np.float32), KEYS[20:22])
    made[1] = made[1].with_change(change)
    return made


@given(
    chosen=st.lists(st.integers(0, 2), max_size=6),
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=2),
    seed=st.integers(0, 99),
)
def test_columns_are_what_their_tables_give(tables, chosen, shape, seed):
    known = np.concatenate([KEYS, [np.uint64(0), np.uint64(77)]])
    keys = np.random.default_rng(seed).choice(known, (len(chosen), *shape))
    columns = ServedColumns([tables[number] for number in chosen])
    rows = columns.find(keys)
    assert rows.shape == keys.shape
    taken = columns.take(list(rows))
    for number, own_keys, own_rows, vectors in zip(chosen, keys, rows, taken, strict=True):
        assert np.array_equal(own_rows, tables[number].find(own_keys))
        expected = tables[number].take(own_rows.reshape(-1)).reshape(*shape, WIDTHS[number])
        assert np.array_equal(vectors, expected)


def test_a_row_that_is_not_there_is_refused(tables):
    with pytest.raises(InputError):
        ServedColumns(tables[:1]).take([np.array([10_000])])


def test_moved_rows_are_those_of_changed_keys(tables):
    before = tables[0]
    after = before.with_change(TableChange(KEYS[5:8], np.ones((3, WIDTHS[0]), np.float32), KEYS[30:31]))
    old, new = after.moved_rows(before)
    assert sorted(old) == old.tolist() == sorted(before.find(KEYS[[5, 6, 7, 30]]))
    at = {row: moved for row, moved in zip(old.tolist(), new.tolist(), strict=True)}
    assert [at[row] for row in before.find(KEYS[[5, 6, 7, 30]])] == after.find(KEYS[[5, 6, 7, 30]]).tolist()
    assert len(after.moved_rows(after)[0]) == 0
