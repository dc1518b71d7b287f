"""What the item stage left of the items that were seen: kept as long as an item's features stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from bowerbird.bundles.kept_items import KeptItems, Values
from bowerbird.bundles.packed_columns import Columns, Keys, PackedColumns, Positions
from bowerbird.compiler.backends.contract import Kept, Made, as_array

MakeItems: TypeAlias = Callable[[PackedColumns], Mapping[str, Made]]
"""From the features of items to their values [items, *shape] by name."""
_SEARCHED = 4096
"""Items that are looked through at a time for changes."""
_TOGETHER = 512
"""Items that are made at a time in the background: no thread that answers waits long for the interpreter."""
_ATTEMPTS = 4
"""By the second one a full store has begun anew, by the third it has copied what it held before."""


class ItemStore:
    """Values by the 64-bit hash of the features that they were made of; a change of a feature is another key.

    So nothing has to be told that an item changed. ``limit`` are the most bytes. Where half of them are in use, the
    store begins anew, and copies what is asked for from what it held until then: what goes is what nobody asked for.
    float32 values are not copied when they are asked for. Threads may share it. Two of n keys collide with probability
    n²/2⁶⁵. ``misses`` counts the items that were made because a request asked for them.
    """

    def __init__(self, limit: int = 256 << 20) -> None:
        self._limit = limit
        self._capacity = limit
        self._lock = threading.Lock()
        self._young: KeptItems | None = None
        self._old: KeptItems | None = None
        self.misses = 0

    def get(self, features: PackedColumns, make: MakeItems) -> Mapping[str, Made | Kept]:
        """Return values [items, *shape] by name of items with some features, which make them up.

        ``make`` gives the values of those items that are not there yet, given their features.
        """
        keys = features.hashes()
        for _ in range(_ATTEMPTS):
            if len(keys) > self._capacity:
                break
            kept = self._young
            rows = _rows(kept, keys)
            unknown = np.flatnonzero(rows < 0)
            if kept is not None and not len(unknown):
                return kept.given_out(rows)
            fresh, first = np.unique(keys[unknown], return_index=True)
            made = self._keep(fresh, features.at(unknown[first]), make)
            with self._lock:
                self.misses += made
        return make(features)  # they do not fit, or others came meanwhile

    def make_changed(self, change: Callable[[Columns], tuple[Positions, Columns]], make: MakeItems) -> int:
        """Make what items become whose features change, a few at a time, as many as fit; return how many.

        ``change`` returns which of some items change, and what their features become.
        """
        done = 0
        for kept, rows in self._latest():
            for some in _parts(rows, _SEARCHED):
                changing, columns = change(kept.features_at(some).columns())
                if not len(changing):
                    continue
                kept.pass_over(some[changing])
                changed = PackedColumns.of(columns, len(changing))
                for part in _parts(np.arange(len(changing)), _TOGETHER):
                    if done + len(part) > self._capacity:
                        return done
                    done += self._make_unknown(changed.at(part), make)
        return done

    def _make_unknown(self, features: PackedColumns, make: MakeItems) -> int:
        """Make those of some items that are not there, and return how many."""
        keys = features.hashes()
        unknown = np.flatnonzero(_rows(self._young, keys) < 0)
        fresh, first = np.unique(keys[unknown], return_index=True)
        return self._keep(fresh, features.at(unknown[first]), make) if len(fresh) else 0

    def _keep(self, keys: Keys, features: PackedColumns, make: MakeItems) -> int:
        """Keep distinct items, copied from what was held before, or made; return how many were made."""
        old, kept = self._old, self._young
        before = _rows(old, keys)
        lost = np.flatnonzero(before < 0)
        values: Values = {}
        if len(lost):
            some = features if len(lost) == len(keys) else features.at(lost)
            values = {name: as_array(each) for name, each in make(some).items()}
        if old is not None and len(lost) < len(keys):
            values = old.values_at(before, values, lost)
        if kept is None or not kept.put(keys, features, values):
            self._begin_anew(kept, features, values)
            if self._young is not None:
                self._young.put(keys, features, values)
        return len(lost)

    def _begin_anew(self, full: KeptItems | None, features: PackedColumns, values: Values) -> None:
        """Let go of what was held before, and begin with room for as many items as those that are given are large."""
        with self._lock:
            if self._young is not full:
                return
            if full is None:
                self._capacity = self._limit // 2 // (features.item_bytes + _item_bytes(values))
            if self._capacity:
                self._old, self._young = full, KeptItems(self._capacity, features, values)

    def _latest(self) -> Iterator[tuple[KeptItems, Positions]]:
        """Yield the rows that came last of each item; the others are of counts and ages that have passed."""
        stores = [kept for kept in (self._old, self._young) if kept is not None]
        if not stores:
            return
        rows = [kept.rows() for kept in stores]
        identities = np.concatenate(
            [kept.identities(some) for kept, each in zip(stores, rows, strict=True) for some in _parts(each, _SEARCHED)]
        )
        _, last = np.unique(identities[::-1], return_index=True)
        latest = np.zeros(len(identities), np.bool_)
        latest[len(identities) - 1 - last] = True
        start = 0
        for kept, each in zip(stores, rows, strict=True):
            own = latest[start : start + len(each)]
            kept.pass_over(each[~own])
            yield kept, each[own]
            start += len(each)


def _rows(kept: KeptItems | None, keys: Keys) -> Positions:
    return np.full(len(keys), -1) if kept is None else kept.find(keys)


def _parts(rows: Positions, size: int) -> Iterator[Positions]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _item_bytes(values: Values) -> int:
    return sum(value[:1].nbytes for value in values.values())
