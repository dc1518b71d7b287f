"""What is kept of items is what would be computed, however they come and go."""

import threading

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.bundles.item_store import ItemStore
from bowerbird.bundles.packed_columns import PackedColumns
from bowerbird.compiler.backends.contract import Kept, as_tensor


def _values(numbers):
    both = np.stack([numbers, -numbers], 1).astype(np.float32)
    return {"double": torch.from_numpy(2.0 * numbers), "both": torch.from_numpy(both)}


def _found(values):
    return {name: each.tensor() if isinstance(each, Kept) else as_tensor(each) for name, each in values.items()}


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=20), max_size=12), st.sampled_from([1 << 20, 24 * 12, 8])
)
def test_every_request_gets_its_items_values(requests, limit):
    store = ItemStore(limit)
    for request in requests:
        numbers = np.array(request, np.float64)
        made = []

        def make(items, made=made):
            made.append(len(items))
            return _values(items.columns()[0])

        found = _found(store.get(PackedColumns.of([numbers], len(numbers)), make))
        assert all(torch.equal(found[name], value) for name, value in _values(numbers).items())
        if limit == 1 << 20:
            again = _found(store.get(PackedColumns.of([numbers], len(numbers)), lambda items: {}))
            assert all(torch.equal(again[name], value) for name, value in _values(numbers).items())


def test_what_was_given_out_stays_as_it_is():
    store = ItemStore(limit=16 * 3000)

    def ask(numbers):
        values = numbers.astype(np.float64)
        return store.get(PackedColumns.of([values], len(values)), lambda items: _values(items.columns()[0]))["both"]

    first = np.arange(10)
    held = ask(first)
    for start in range(10, 12_000, 700):
        ask(np.arange(start, start + 700))
    assert torch.equal(held.tensor(), _values(first)["both"])


def test_a_changed_feature_is_another_key():
    columns = [np.arange(50), np.linspace(0, 1, 50, dtype=np.float32), np.ones((50, 3), bool)]
    first = PackedColumns.of(columns, 50).hashes()
    assert len(np.unique(first)) == 50
    changed = [columns[0], columns[1].copy(), columns[2]]
    changed[1][7] += 1e-3
    assert np.flatnonzero(PackedColumns.of(changed, 50).hashes() != first).tolist() == [7]


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_packed_columns_are_the_columns(seed, items):
    chance = np.random.default_rng(seed)
    columns = [
        chance.integers(0, 9, items), chance.random(items, np.float32), chance.random((items, 3, 2), np.float32),
        chance.random((items, 2)) > 0.5, chance.integers(0, 9, (items, 4)),
    ]  # fmt: skip
    packed = PackedColumns.of(columns, items)
    chosen = chance.integers(0, items, 7)
    for some, expected in ((packed, columns), (packed.at(chosen), [each[chosen] for each in columns])):
        for found, column in zip(some.columns(), expected, strict=True):
            assert found.dtype == column.dtype and np.array_equal(found, column)


def test_two_threads_that_make_the_same_items_at_once_keep_them_once():
    store, items = ItemStore(), [np.array([3, 5])]

    def make_slowly(some):
        store.get(PackedColumns.of(items, 2), values)  # the other thread is done first
        return values(some)

    def values(some):
        return {"x": torch.from_numpy(np.float32(some.columns()[0])).reshape(-1, 1)}

    (first,) = store.get(PackedColumns.of(items, 2), make_slowly).values()
    (again,) = store.get(PackedColumns.of(items, 2), values).values()
    assert first.tensor().tolist() == again.tensor().tolist() == [[3.0], [5.0]]


def _counted(made):
    def make(items):
        (first, *_) = items.columns()
        made.extend(first.tolist())
        return _values(first.astype(np.float64))

    return make


def test_a_full_store_keeps_what_is_asked_for():
    store, made = ItemStore(limit=2 * 100 * 24), []  # 8 bytes of features, 8 and 8 of values: twice a hundred items
    store.get(PackedColumns.of([np.arange(80)], 80), _counted(made))
    found = _found(store.get(PackedColumns.of([np.arange(40, 120)], 80), _counted(made)))
    assert sorted(made) == list(range(120))
    assert torch.equal(found["double"], 2.0 * torch.arange(40, 120, dtype=torch.float64))
    for _ in range(10):
        for start in (0, 40, 60):
            store.get(PackedColumns.of([np.arange(start, start + 60)], 60), _counted(made))
    assert len(made) == store.misses == 120


def test_what_nobody_asks_for_goes():
    store, made = ItemStore(limit=2 * 100 * 24), []
    for start in range(0, 2_000, 50):
        store.get(PackedColumns.of([np.arange(start, start + 50)], 50), _counted(made))
    assert len(made) == 2_000
    store.get(PackedColumns.of([np.arange(1_950, 2_000)], 50), _counted(made))
    assert len(made) == 2_000
    store.get(PackedColumns.of([np.arange(50)], 50), _counted(made))
    assert len(made) == 2_050


def test_a_request_of_more_items_than_fit_is_made_at_once():
    store, made = ItemStore(limit=2 * 100 * 24), []
    store.get(PackedColumns.of([np.arange(10)], 10), _counted(made))
    found = _found(store.get(PackedColumns.of([np.arange(101)], 101), _counted(made)))
    assert len(made) == 111
    assert torch.equal(found["double"], 2.0 * torch.arange(101, dtype=torch.float64))


def test_threads_that_fill_a_store_get_their_own_items():
    store, wrong = ItemStore(limit=2 * 100 * 24), []

    def ask(seed):
        chance = np.random.default_rng(seed)
        for _ in range(300):
            items = chance.integers(0, 400, 60)
            packed = PackedColumns.of([items], 60)
            found = _found(store.get(packed, lambda some: _values(some.columns()[0].astype(np.float64))))
            if not torch.equal(found["both"], _values(items.astype(np.float64))["both"]):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def _moved_by(factor):
    """Items 7, 57, 107 and so on become others."""

    def change(columns):
        chosen = np.flatnonzero(columns[0] % 50 == 7)
        return chosen, [columns[0][chosen] + factor, *(column[chosen] for column in columns[1:])]

    return change


def test_changed_items_are_made_before_they_are_asked_for():
    store, made = ItemStore(), []
    store.get(PackedColumns.of([np.arange(150)], 150), _counted(made))
    assert store.make_changed(_moved_by(1000), _counted(made)) == 3
    assert sorted(made[150:]) == [1007, 1057, 1107]
    found = _found(store.get(PackedColumns.of([np.array([1107, 8, 1007])], 3), _counted(made)))
    assert found["double"].tolist() == [2214.0, 16.0, 2014.0]
    assert len(made) == 153


def test_of_an_item_whose_counts_changed_the_latest_is_made():
    store, made = ItemStore(), []
    for counts in range(4):
        store.get(PackedColumns.of([np.arange(50), np.full(50, counts, np.float32)], 50), _counted(made))
    before = len(made)
    assert store.make_changed(_moved_by(1000), _counted(made)) == 1
    store.get(PackedColumns.of([np.array([1007]), np.full(1, 3, np.float32)], 1), _counted(made))
    assert made[before:] == [1007]


def test_a_full_store_has_room_for_changed_items():
    store, made = ItemStore(limit=2 * 100 * 24), []
    store.get(PackedColumns.of([np.arange(100)], 100), _counted(made))
    assert store.make_changed(lambda columns: (np.arange(100), [columns[0] + 1000]), _counted(made)) == 100
    store.get(PackedColumns.of([np.arange(1_000, 1_100)], 100), _counted(made))
    assert len(made) == 200
