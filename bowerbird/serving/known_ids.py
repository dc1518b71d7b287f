"""Which records the log already holds: their types and ids, in about eight bytes each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.keys import keys_of_texts

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
_RECENT = 1 << 16
_LARGEST = 1 << 24
"""Keys of a run that is merged no more: merging it would keep the writer waiting."""


class KnownIds:
    """(type, id) pairs, as 64-bit keys of the ids by type.

    A new id is taken for a known one with a probability of n / 2^64 for n records of its type.
    """

    def __init__(self) -> None:
        self._types: defaultdict[str, _KeySet] = defaultdict(_KeySet)

    def add_imported(self, type_name: str, keys: Keys) -> None:
        """Add a type's records by the ``key_text`` of their ids, uint64 [n]."""
        self._types[type_name].add_run(np.sort(keys))

    def add(self, records: Iterable[tuple[str, str]]) -> None:
        """Add records as (type, id)."""
        rest = iter(records)
        while some := list(islice(rest, _RECENT)):
            for type_name, rows in _by_type(some).items():
                self._types[type_name].add(_keys([some[row][1] for row in rows]))

    def hold(self, records: Sequence[tuple[str, str]]) -> Mask:
        """Return bool [n]: which (type, id) pairs the log holds."""
        held = np.zeros(len(records), dtype=np.bool_)
        for type_name, rows in _by_type(records).items():
            if type_name in self._types:
                held[rows] = self._types[type_name].holds(_keys([records[row][1] for row in rows]))
        return held

    @property
    def bytes(self) -> int:
        """About how much memory the ids take."""
        return sum(keys.bytes for keys in self._types.values())


class _KeySet:
    """Keys: the newest in a set, the others in sorted runs that are merged as they become alike in size."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[Keys] = []

    @property
    def bytes(self) -> int:
        return 64 * len(self._recent) + sum(run.nbytes for run in self._runs)

    def add(self, keys: Keys) -> None:
        self._recent.update(keys.tolist())
        if len(self._recent) >= _RECENT:
            self.add_run(np.sort(np.fromiter(self._recent, np.uint64, len(self._recent))))
            self._recent = set()

    def add_run(self, run: Keys) -> None:
        """Add ascending keys."""
        while self._runs and len(self._runs[-1]) <= 2 * len(run) and len(self._runs[-1]) + len(run) <= _LARGEST:
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)

    def holds(self, keys: Keys) -> Mask:
        held: Mask = np.fromiter(map(self._recent.__contains__, keys.tolist()), np.bool_, len(keys))
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            held |= run[places] == keys
        return held


def _by_type(records: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, (type_name, _) in enumerate(records):
        rows[type_name].append(row)
    return rows


def _keys(identifiers: Sequence[str]) -> Keys:
    texts = [identifier.encode() for identifier in identifiers]
    bounds = np.fromiter(accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
    return keys_of_texts(np.frombuffer(b"".join(texts) or b"\0", np.uint8), bounds)
