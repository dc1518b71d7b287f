"""Vectors that are looked up when a model first reads them, or never where it takes a table's rows as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bowerbird.embedding.exact_tables import HandedRows
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


if TYPE_CHECKING:
    _Features = dict[str, Tensor]
else:

    class _Features(MutableMapping, dict):
        """A dict of which every access goes through the few methods that a MutableMapping asks for."""


class DeferredFeatures(_Features):
    """Model inputs by name, a dict of tensors to whoever reads it; those in ``unread`` are looked up when they are."""

    def __init__(self, known: Mapping[str, Tensor], unread: Mapping[str, TableRows]) -> None:
        dict.__init__(self, known)
        self.unread = dict(unread)

    def __getitem__(self, name: str) -> Tensor:
        if name in self.unread:
            dict.__setitem__(self, name, self.unread.pop(name).vectors())
        return dict.__getitem__(self, name)

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
    """Return a feature as it is: the rows of its table where nobody has read its vectors."""
    if isinstance(features, DeferredFeatures) and name in features.unread:
        return features.unread[name]
    return features[name]
