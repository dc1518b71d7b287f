"""Tables that PyTorch trains: every row takes part in every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bowerbird import _native

Places: TypeAlias = npt.NDArray[np.int64]
_WORTH_THREADS = 4096
"""So many rows are worth waking a second thread."""


class ExactTables(nn.Module):
    """The rows of several vocabularies of one width, end to end in one parameter: one lookup serves them all."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(0, dimension))
        self._counts: dict[str, int] = {}

    def __contains__(self, vocabulary: str) -> bool:
        return vocabulary in self._counts

    @property
    def vocabularies(self) -> list[str]:
        """Whose rows these are, in order."""
        return list(self._counts)

    def view(self, vocabulary: str) -> Tensor:
        """Return a vocabulary's rows, float32 [rows, dimension], a view."""
        start = self.starts([vocabulary])[0]
        return self.rows[start : start + self._counts[vocabulary]]

    def starts(self, vocabularies: Sequence[str]) -> list[int]:
        """Return where vocabularies' rows begin."""
        first, places = 0, {}
        for name, count in self._counts.items():
            places[name] = first
            first += count
        return [places[name] for name in vocabularies]

    def put(self, vocabulary: str, rows: Tensor) -> None:
        """Set a vocabulary's rows [rows, dimension]; the parameter is a new one afterwards."""
        parts = {name: self.view(name).detach() for name in self._counts} | {vocabulary: rows.detach()}
        self._set(parts)

    def remove(self, vocabulary: str) -> Tensor:
        """Take a vocabulary out; return its rows."""
        parts = {name: self.view(name).detach() for name in self._counts}
        taken = parts.pop(vocabulary).clone()
        self._set(parts)
        return taken

    def forward(self, columns: Sequence[Places]) -> tuple[Tensor, ...]:
        """Return the rows at each column's places (counted over all vocabularies): float32 [..., dimension] each.

        ``columns`` are int64 [...]. Raises ValueError for a place that is not there.
        """
        found: tuple[Tensor, ...] = _Lookup.apply(self.rows, tuple(columns))  # type: ignore[no-untyped-call]
        return found

    def _set(self, parts: dict[str, Tensor]) -> None:
        self._counts = {name: len(rows) for name, rows in parts.items()}
        self.rows = nn.Parameter(torch.cat([*parts.values(), self.rows.detach()[:0]]))


class _Lookup(torch.autograd.Function):
    """Rows of a table at several columns of places; one dense gradient comes back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: tuple[Places, ...]) -> tuple[Tensor, ...]:
        ctx.columns, ctx.shape = [np.ascontiguousarray(places).reshape(-1) for places in columns], rows.shape
        table, width = rows.detach(), rows.shape[1]
        found = []
        for places, flat in zip(columns, ctx.columns, strict=True):
            out = torch.empty(len(flat), width)
            _native.gather_rows(table, flat, out, _threads(len(flat)))
            found.append(out.view(*places.shape, width))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None]:
        total = torch.zeros(ctx.shape)
        for places, gradient in zip(ctx.columns, gradients, strict=True):
            if gradient is not None:
                values = gradient.detach().reshape(len(places), -1)
                values = values if values.stride(1) == 1 or values.shape[1] == 1 else values.contiguous()
                _native.scatter_rows(values, places, total, _threads(len(places)))
        return total, None


def _threads(rows: int) -> int:
    return torch.get_num_threads() if rows >= _WORTH_THREADS else 1
