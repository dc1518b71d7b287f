"""Vectors that are looked up when a model first reads them, or never where it takes a table's rows as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.embedding.exact_tables import Fields, HandedRows
from bowerbird.embedding.rows import Rows


@dataclass(frozen=True)
class TableRows:
    """Vectors that stand in a table: ``rows`` [...] of its rows ``start`` to ``end``."""

    table: HandedRows
    start: int
    end: int
    rows: Rows

    @property
    def shape(self) -> torch.Size:
        """The vectors' shape."""
        return torch.Size((*self.rows.shape, self.table.rows.shape[1]))

    def vectors(self) -> Tensor:
        """Return them, float32 [..., dimension]."""
        return self.table.look_up([np.add(self.rows, self.start, dtype=np.int64)])[0]


@dataclass(frozen=True)
class TableColumns:
    """Columns of vectors that stand in a table: by name the column of ``places`` and where its range of rows begins."""

    table: HandedRows
    places: npt.NDArray[np.int32]
    columns: dict[str, tuple[int, int]]

    def vectors(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return some columns one by one, float32 [samples, dimension] each."""
        known = [self.columns[name] for name in names]
        places = [np.add(self.places[:, column], start, dtype=np.int64) for column, start in known]
        return dict(zip(names, self.table.look_up(places), strict=True))

    def side_by_side(self, names: Sequence[str]) -> Tensor:
        """Return some columns end to end, float32 [samples, columns * dimension]."""
        return self.table.side_by_side(Fields(self.places, [self.columns[name] for name in names]))


if TYPE_CHECKING:
    _Features = dict[str, Tensor]
else:

    class _Features(MutableMapping, dict):
        """A dict of which every access goes through the few methods that a MutableMapping asks for."""


class DeferredFeatures(_Features):
    """Model inputs by name, a dict of tensors to whoever reads it; those in ``unread`` are looked up when they are.

    The first of a table's columns that is read brings the others along, unless they were taken side by side.
    """

    def __init__(self, known: Mapping[str, Tensor], unread: Mapping[str, TableRows | TableColumns]) -> None:
        dict.__init__(self, known)
        self.unread = dict(unread)
        self._one_by_one = False

    def __getitem__(self, name: str) -> Tensor:
        waiting = self.unread.get(name)
        if isinstance(waiting, TableRows):
            self[name] = waiting.vectors()
        elif waiting is not None:
            self.update(waiting.vectors([name] if self._one_by_one else self._unread_of(waiting)))
        return dict.__getitem__(self, name)

    def side_by_side(self, names: Sequence[str]) -> Tensor | None:
        """Return features end to end, float32 [rows, widths]; None unless they are columns of one table, and unread."""
        waiting = self.unread.get(names[0]) if names else None
        if not isinstance(waiting, TableColumns) or any(self.unread.get(name) is not waiting for name in names):
            return None
        self._one_by_one = True
        return waiting.side_by_side(names)

    def _unread_of(self, waiting: TableColumns) -> list[str]:
        return [name for name in waiting.columns if self.unread.get(name) is waiting]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.unread.pop(name, None)
        dict.__setitem__(self, name, value)

    def __delitem__(self, name: str) -> None:
        if self.unread.pop(name, None) is None:
            dict.__delitem__(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.unread or dict.__contains__(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter([*dict.__iter__(self), *self.unread])

    def __len__(self) -> int:
        return dict.__len__(self) + len(self.unread)


def in_place(features: Mapping[str, Tensor], name: str) -> Tensor | TableRows:
    """Return a feature as it is: the rows of its table where it is a sequence's and nobody has read its vectors."""
    waiting = features.unread.get(name) if isinstance(features, DeferredFeatures) else None
    return waiting if isinstance(waiting, TableRows) else features[name]


def stretches(features: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor]:
    """Return features [rows, width] in their order: as one tensor where they can be looked up side by side."""
    whole = features.side_by_side(names) if isinstance(features, DeferredFeatures) else None
    return [features[name] for name in names] if whole is None else [whole]
