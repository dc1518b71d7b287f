"""Hashes of rows: native equals the twin, and rows that differ in one element have others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bowerbird.kernels.row_hash import hash_rows, hash_rows_twin

TYPES = (np.int64, np.uint64, np.float64, np.float32, np.int32, np.bool_)


@st.composite
def matrices(draw):
    rows = draw(st.integers(0, 40))
    count = draw(st.integers(0, 4))
    drawn = [hnp.arrays(draw(st.sampled_from(TYPES)), (draw(st.integers(0, 5)), rows)) for _ in range(count)]
    return [draw(each) for each in drawn], rows


@given(matrices())
def test_native_equals_the_twin(given_matrices):
    columns, rows = given_matrices
    assert np.array_equal(hash_rows(columns, rows), hash_rows_twin(columns, rows))


@given(st.integers(0, 4), st.integers(0, 29), st.integers(1, 2**64 - 1))
def test_one_changed_element_changes_its_row_alone(column, row, difference):
    columns = np.random.default_rng(0).integers(0, 2**64, (5, 30), np.uint64)
    changed = columns.copy()
    changed[column, row] ^= np.uint64(difference)
    assert np.flatnonzero(hash_rows([columns], 30) != hash_rows([changed], 30)).tolist() == [row]


def test_what_is_no_matrix_of_that_many_rows_is_refused():
    for matrix in (np.zeros((2, 3)), np.zeros((2, 4), np.float16), np.zeros((4, 4)).T[1:], np.zeros(4)):
        with pytest.raises(ValueError, match=r"matrix|bytes"):
            hash_rows([matrix], 4)
