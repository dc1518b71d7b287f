"""What is kept of items is what would be computed, however they come and go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.bundles.item_store import ItemStore, hash_columns
from bowerbird.compiler.backends.contract import Kept


def _values(numbers):
    both = np.stack([numbers, -numbers], 1).astype(np.float32)
    return {"double": torch.from_numpy(2.0 * numbers), "both": torch.from_numpy(both)}


def _found(values):
    return {name: each.tensor() if isinstance(each, Kept) else each for name, each in values.items()}


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=20), max_size=12), st.sampled_from([1 << 20, 24 * 12, 8])
)
def test_every_request_gets_its_items_values(requests, limit):
    store = ItemStore(limit)
    for request in requests:
        numbers = np.array(request, np.float64)
        made = []

        def make(chosen, numbers=numbers, made=made):
            made.append(len(chosen))
            return _values(numbers[chosen])

        found = _found(store.get(hash_columns([numbers], len(numbers)), make))
        assert all(torch.equal(found[name], value) for name, value in _values(numbers).items())
        if limit == 1 << 20:
            again = _found(store.get(hash_columns([numbers], len(numbers)), lambda chosen: {}))
            assert all(torch.equal(again[name], value) for name, value in _values(numbers).items())


def test_what_was_given_out_stays_as_it_is():
    store = ItemStore(limit=16 * 3000)

    def ask(numbers):
        values = numbers.astype(np.float64)
        return store.get(hash_columns([values], len(values)), lambda chosen: _values(values[chosen]))["both"]

    first = np.arange(10)
    held = ask(first)
    for start in range(10, 12_000, 700):
        ask(np.arange(start, start + 700))
    assert torch.equal(held.tensor(), _values(first)["both"])


@pytest.mark.parametrize(("format", "error"), [("fp16", 1e-3), ("bf16", 1e-2), ("int8", 1e-2)])
def test_rows_are_kept_in_fewer_bits(format, error):
    store, numbers = ItemStore(format=format), np.linspace(-1, 1, 50)
    for _ in range(2):
        kept = store.get(hash_columns([numbers], 50), lambda chosen: _values(numbers[chosen]))["both"]
        assert kept.stored.format == format
        assert torch.allclose(kept.tensor(), _values(numbers)["both"], atol=error)


def test_a_changed_feature_is_another_key():
    columns = [np.arange(50), np.linspace(0, 1, 50, dtype=np.float32), np.ones((50, 3), bool)]
    first = hash_columns(columns, 50)
    assert len(np.unique(first)) == 50
    changed = [columns[0], columns[1].copy(), columns[2]]
    changed[1][7] += 1e-3
    assert np.flatnonzero(hash_columns(changed, 50) != first).tolist() == [7]


def test_two_threads_that_make_the_same_items_at_once_keep_them_once():
    store, keys = ItemStore(), np.array([3, 5], np.uint64)

    def make_slowly(chosen):
        store.get(keys, values)  # the other thread is done first
        return values(chosen)

    def values(chosen):
        return {"x": torch.from_numpy(np.float32(keys[chosen])).reshape(-1, 1)}

    (first,) = store.get(keys, make_slowly).values()
    (again,) = store.get(keys, values).values()
    assert first.tensor().tolist() == again.tensor().tolist() == [[3.0], [5.0]]
