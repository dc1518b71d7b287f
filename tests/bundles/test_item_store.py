"""What is kept of items is what would be computed, however they come and go."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.bundles.item_store import ItemStore, hash_columns
from bowerbird.compiler.backends.contract import Kept


def _values(numbers):
    both = np.stack([numbers, -numbers], 1).astype(np.float32)
    return {"double": torch.from_numpy(2.0 * numbers), "both": torch.from_numpy(both)}


def _found(values):
    return {name: each.tensor() if isinstance(each, Kept) else each for name, each in values.items()}


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=20), max_size=12), st.sampled_from([1 << 20, 24 * 12, 8])
)
def test_every_request_gets_its_items_values(requests, limit):
    store = ItemStore(limit)
    for request in requests:
        numbers = np.array(request, np.float64)
        made = []

        def make(columns, made=made):
            made.append(len(columns[0]))
            return _values(columns[0])

        found = _found(store.get([numbers], len(numbers), make))
        assert all(torch.equal(found[name], value) for name, value in _values(numbers).items())
        if limit == 1 << 20:
            again = _found(store.get([numbers], len(numbers), lambda columns: {}))
            assert all(torch.equal(again[name], value) for name, value in _values(numbers).items())


def test_what_was_given_out_stays_as_it_is():
    store = ItemStore(limit=16 * 3000)

    def ask(numbers):
        values = numbers.astype(np.float64)
        return store.get([values], len(values), lambda columns: _values(columns[0]))["both"]

    first = np.arange(10)
    held = ask(first)
    for start in range(10, 12_000, 700):
        ask(np.arange(start, start + 700))
    assert torch.equal(held.tensor(), _values(first)["both"])


def test_a_changed_feature_is_another_key():
    columns = [np.arange(50), np.linspace(0, 1, 50, dtype=np.float32), np.ones((50, 3), bool)]
    first = hash_columns(columns, 50)
    assert len(np.unique(first)) == 50
    changed = [columns[0], columns[1].copy(), columns[2]]
    changed[1][7] += 1e-3
    assert np.flatnonzero(hash_columns(changed, 50) != first).tolist() == [7]


def test_two_threads_that_make_the_same_items_at_once_keep_them_once():
    store, items = ItemStore(), [np.array([3, 5])]

    def make_slowly(columns):
        store.get(items, 2, values)  # the other thread is done first
        return values(columns)

    def values(columns):
        return {"x": torch.from_numpy(np.float32(columns[0])).reshape(-1, 1)}

    (first,) = store.get(items, 2, make_slowly).values()
    (again,) = store.get(items, 2, values).values()
    assert first.tensor().tolist() == again.tensor().tolist() == [[3.0], [5.0]]


def _counted(made):
    def make(columns):
        made.extend(columns[0].tolist())
        return _values(columns[0].astype(np.float64))

    return make


def test_a_full_store_makes_no_item_of_a_request_twice():
    store, made = ItemStore(limit=100 * 24), []  # 8 bytes of features, 8 and 8 of values: a hundred items
    store.get([np.arange(80)], 80, _counted(made))
    found = _found(store.get([np.arange(40, 120)], 80, _counted(made)))
    assert sorted(made) == list(range(120))
    assert torch.equal(found["double"], 2.0 * torch.arange(40, 120, dtype=torch.float64))
    store.get([np.arange(40, 120)], 80, _counted(made))
    assert len(made) == 120


def test_a_request_of_more_items_than_fit_is_made_at_once():
    store, made = ItemStore(limit=100 * 24), []
    store.get([np.arange(10)], 10, _counted(made))
    found = _found(store.get([np.arange(101)], 101, _counted(made)))
    assert len(made) == 111
    assert torch.equal(found["double"], 2.0 * torch.arange(101, dtype=torch.float64))


def test_changed_items_are_made_before_they_are_asked_for():
    store, made = ItemStore(), []
    store.get([np.arange(150)], 150, _counted(made))

    def change(columns):
        chosen = np.flatnonzero(columns[0] % 50 == 7)
        return chosen, [columns[0][chosen] + 1000]

    assert store.make_changed(change, _counted(made)) == 3
    assert sorted(made[150:]) == [1007, 1057, 1107]
    found = _found(store.get([np.array([1107, 8, 1007])], 3, _counted(made)))
    assert found["double"].tolist() == [2214.0, 16.0, 2014.0]
    assert len(made) == 153


def test_a_store_without_room_makes_no_changed_items():
    store, made = ItemStore(limit=100 * 24), []
    store.get([np.arange(100)], 100, _counted(made))
    assert store.make_changed(lambda columns: (np.arange(100), [columns[0] + 1000]), _counted([])) == 0
    store.get([np.arange(100)], 100, _counted(made))
    assert len(made) == 100
