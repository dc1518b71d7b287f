import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.embedding.key_index import MISSING_ROW, RESERVED_ROWS, UNSEEN_ROW, KeyIndex

KEYS = st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=50)


@given(KEYS, KEYS)
def test_find_gives_each_admitted_key_its_own_row(admitted, others):
    index = KeyIndex()
    keys = np.array(admitted, np.uint64)
    index.admit(keys, np.ones(len(keys), np.int64), 1)
    rows = index.find(keys)
    assert sorted(rows.tolist()) == list(range(RESERVED_ROWS, RESERVED_ROWS + len(admitted)))
    assert index.keys[rows - RESERVED_ROWS].tolist() == admitted
    unknown = np.array([key for key in others if key not in admitted], np.uint64)
    assert (index.find(unknown) == UNSEEN_ROW).all()
    assert index.find(np.zeros(2, np.uint64)).tolist() == [MISSING_ROW, MISSING_ROW]


@given(KEYS, st.integers(1, 5), st.randoms())
def test_admission_takes_frequent_keys_and_ignores_the_order(keys, minimum, random):
    counts = {key: random.randint(0, 8) for key in keys}
    shuffled = random.sample(keys, len(keys))
    first, second = KeyIndex(), KeyIndex()
    for index, order in ((first, keys), (second, shuffled)):
        index.admit(np.array(order, np.uint64), np.array([counts[key] for key in order], np.int64), minimum)
    assert first.keys.tolist() == second.keys.tolist()
    assert set(first.keys.tolist()) == {key for key in keys if counts[key] >= minimum}
    frequencies = [counts[key] for key in first.keys.tolist()]
    assert frequencies == sorted(frequencies, reverse=True)


def test_growing_keeps_rows():
    index = KeyIndex()
    index.admit(np.array([30, 10], np.uint64), np.array([5, 5]), 2)
    before = index.find(np.array([10, 30], np.uint64)).tolist()
    admitted = index.admit(np.array([10, 20, 40], np.uint64), np.array([9, 9, 1]), 2)
    assert admitted == 1
    assert index.find(np.array([10, 30], np.uint64)).tolist() == before
    assert index.find(np.array([20, 40], np.uint64)).tolist() == [4, UNSEEN_ROW]
