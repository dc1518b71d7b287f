"""Where rows are after a reshape, against tensors whose elements know their row."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.compiler.size import ROWS, Rows, Size, reshaped_rows, row_shape
from bowerbird.compiler.whole import with_rows, without_rows

FACTORS = st.lists(st.sampled_from([1, 2, 3]), min_size=0, max_size=3)


def _shape(sizes, rows):
    return [size.at(rows) for size in sizes]


@given(FACTORS, FACTORS, st.integers(2, 5), st.data())
def test_a_reshape_keeps_rows_together_or_says_that_it_does_not(before, behind, rows, data):
    old = [*(Size(0, each) for each in before), ROWS, *(Size(0, each) for each in behind)]
    owner = np.broadcast_to(np.arange(rows).reshape(-1, *(1,) * len(behind)), [size.at(rows) for size in old])
    merged = data.draw(st.integers(0, len(before))), data.draw(st.integers(0, len(behind)))
    start, stop = len(before) - merged[0], len(before) + 1 + merged[1]
    fold = int(np.prod([size.plus for size in (*old[start : len(before)], *old[len(before) + 1 : stop])], dtype=int))
    new = [*old[:start], Size(fold, 0), *old[stop:]]
    found = reshaped_rows(Rows(len(before)), old, new)
    assert found is not None and found.fold == fold
    moved = np.moveaxis(
        owner.reshape(_shape(new, rows)).reshape(
            *_shape(new[:start], rows), found.outer, rows, found.inner, *_shape(new[start + 1 :], rows)
        ),
        start + 1,
        0,
    )
    assert all((moved[row] == row).all() for row in range(rows))
    assert reshaped_rows(found, new, old) == Rows(len(before))


def test_rows_that_are_cut_apart_are_not_found():
    old = [ROWS, Size(0, 6)]
    assert reshaped_rows(Rows(0), old, [Size(0, 2), Size(3, 0)]) is None
    assert reshaped_rows(Rows(0), old, [Size(2, 0), Size(0, 3)]) == Rows(0, 1, 2)
    assert reshaped_rows(Rows(0, 2, 1), [Size(2, 0), Size(0, 3)], [ROWS, Size(0, 6)]) is None


@given(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_a_tensor_with_its_rows_anywhere_comes_back(dim, outer, inner, rows):
    where = Rows(dim, outer, inner)
    sizes = [Size(0, 2), Size(0, 3)]
    sizes.insert(dim, Size(where.fold, 0))
    value = torch.randn(rows, *row_shape(sizes, where))
    whole = with_rows(value, where, rows)
    assert list(whole.shape) == _shape(sizes, rows)
    assert torch.equal(without_rows(whole, where, rows), value)
