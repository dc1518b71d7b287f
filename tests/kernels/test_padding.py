"""Sequences as rectangles: the native kernel does what its twin does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.kernels.padding import pad_events, pad_events_twin, pad_sequences, pad_sequences_twin

_FEW = st.integers(0, 3)


@given(st.lists(st.integers(0, 9), max_size=6), _FEW, _FEW, st.integers(1, 7), st.integers(0, 9))
def test_native_padding_is_its_twins(sizes, keys, numbers, length, spare):
    chance = np.random.default_rng(0)
    offsets = np.cumsum([0, *sizes], dtype=np.int64)
    events = int(offsets[-1]) + spare
    given_keys = [chance.integers(1, 1 << 60, events, np.uint64) for _ in range(keys)]
    given_numbers = [chance.random(events, np.float32) for _ in range(numbers)]
    found = pad_sequences(offsets, given_keys, given_numbers, length)
    expected = pad_sequences_twin(offsets, given_keys, given_numbers, length)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6), _FEW, _FEW, st.integers(1, 7))
def test_events_padded_natively_are_the_twins(spans, rows, numbers, length):
    chance = np.random.default_rng(0)
    starts, ends = np.sort(np.array(spans, np.int64).reshape(-1, 2), axis=1).T.copy()
    of_rows, of_numbers = chance.integers(1, 1000, (12, rows), np.int32), chance.random((13, numbers), np.float32)
    found = pad_events(starts, ends, of_rows, of_numbers, length)
    for one, other in zip(found, pad_events_twin(starts, ends, of_rows, of_numbers, length), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 5)])
def test_sequences_beyond_the_events_are_refused(start, end):
    with pytest.raises(ValueError, match="within the events"):
        pad_events(np.array([start]), np.array([end]), np.zeros((4, 1), np.int32), np.zeros((5, 1), np.float32), 3)


@pytest.mark.parametrize(
    ("offsets", "keys", "numbers"),
    [
        (np.array([], np.int64), [], []),
        (np.array([0, 3]), [np.zeros(2, np.uint64)], []),
        (np.array([2, 1, 3]), [], []),
        (np.array([-1, 1]), [], []),
        (np.array([0, 2]), [np.zeros(2, np.int32)], []),
        (np.array([0, 2]), [], [np.zeros(4, np.float32)[::2]]),
    ],
)
def test_other_columns_and_offsets_are_refused(offsets, keys, numbers):
    with pytest.raises(ValueError, match=r"offsets|column"):
        pad_sequences(offsets, keys, numbers, 4)
