"""Tables that PyTorch trains: every row takes part in every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
        self._ranges: dict[str, tuple[int, int]] = {}

    def range_of(self, vocabulary: str) -> tuple[int, int]:
        """Return where a vocabulary's rows begin and end."""
        return self._ranges[vocabulary]

    def view(self, vocabulary: str) -> Tensor:
        """Return a vocabulary's rows, float32 [rows, dimension], a view."""
        start, end = self._ranges[vocabulary]
        return self.rows[start:end]

    def start(self, vocabulary: str) -> int:
        """Return where a vocabulary's rows begin."""
        return self._ranges[vocabulary][0]

    def put(self, tables: Mapping[str, Tensor]) -> None:
        """Set vocabularies' rows [rows, dimension], in one copy of them all; the parameter is a new one afterwards."""
        self._set({name: self.view(name).detach() for name in self._ranges} | dict(tables))

    def remove(self, vocabulary: str) -> Tensor:
        """Take a vocabulary out; return its rows."""
        taken = self.view(vocabulary).detach()
        self._set({name: self.view(name).detach() for name in self._ranges if name != vocabulary})
        return taken

    def forward(self, columns: Sequence[Places]) -> tuple[Tensor, ...]:
        """Return the rows at each column's places (counted over all vocabularies): float32 [..., dimension] each.

        ``columns`` are int64 [...]. Raises ValueError for a place that is not there.
        """
        if torch.is_inference_mode_enabled():
            return self._taken(columns)
        return self.handed().look_up(columns)

    def handed(self) -> HandedRows:
        """Return the rows for several lookups of one pass."""
        return HandedRows(self.rows)

    def _taken(self, columns: Sequence[Places]) -> tuple[Tensor, ...]:
        """Return the rows at each column's places, taken in one pass over all of them."""
        places = np.concatenate([column.reshape(-1) for column in columns])
        out = torch.empty(len(places), self.rows.shape[1])
        _native.gather_rows(self.rows.detach(), places, out, _threads(len(places)))
        parts = torch.split(out, [column.size for column in columns])
        return tuple(part.view(*each.shape, -1) for part, each in zip(parts, columns, strict=True))

    def _set(self, parts: dict[str, Tensor]) -> None:
        whole = torch.cat([*parts.values(), self.rows.detach()[:0]])
        ends = list(accumulate(len(rows) for rows in parts.values()))
        starts = [0, *ends]
        self._ranges = {name: (start, end) for name, start, end in zip(parts, starts, ends, strict=False)}
        self.rows = nn.Parameter(whole)


@dataclass(frozen=True)
class Fields:
    """Places int32 [samples, columns]; of each column that is meant its number, and where its range of rows begins."""

    places: npt.NDArray[np.int32]
    columns: list[tuple[int, int]]


class HandedRows:
    """A table's rows [rows, dimension] that each lookup hands on, so that all of a pass add to one gradient."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def look_up(self, columns: Sequence[Places]) -> tuple[Tensor, ...]:
        """Return the rows at each column's places; see ``ExactTables.forward``."""
        found: tuple[Tensor, ...] = _Lookup.apply(self.rows, tuple(columns))  # type: ignore[no-untyped-call]
        self.rows = found[-1]
        return found[:-1]

    def side_by_side(self, fields: Fields) -> Tensor:
        """Return each sample's rows of some columns end to end, float32 [samples, columns * dimension].

        Raises ValueError for a place that is not there.
        """
        found: Tensor
        found, self.rows = _FieldLookup.apply(self.rows, fields)  # type: ignore[no-untyped-call]
        return found


class _Lookup(torch.autograd.Function):
    """Rows of a table at several columns of places, then the table; one dense gradient comes back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: tuple[Places, ...]) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.columns, ctx.shape = [np.ascontiguousarray(places).reshape(-1) for places in columns], rows.shape
        table, width = rows.detach(), rows.shape[1]
        found = []
        for places, flat in zip(columns, ctx.columns, strict=True):
            out = torch.empty(len(flat), width)
            _native.gather_rows(table, flat, out, _threads(len(flat)))
            found.append(out.view(*places.shape, width))
        return (*found, table)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor, None]:
        *gradients, of_table = given
        total = torch.zeros(ctx.shape) if of_table is None else of_table.detach()
        for places, gradient in zip(ctx.columns, gradients, strict=True):
            if gradient is not None:
                values = gradient.detach().reshape(len(places), -1)
                values = values if values.stride(1) == 1 or values.shape[1] == 1 else values.contiguous()
                _native.scatter_rows(values, places, total, _threads(len(places)))
        return total, None


class _FieldLookup(torch.autograd.Function):
    """Rows of a table at columns of places, side by side, then the table; one dense gradient comes back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, fields: Fields) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.fields, ctx.shape = fields, rows.shape
        table, samples = rows.detach(), len(fields.places)
        out = torch.empty(samples, len(fields.columns) * rows.shape[1])
        _native.gather_fields(table, fields.places, fields.columns, out, _threads(samples * len(fields.columns)))
        return out, table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, of_table: Tensor | None) -> tuple[Tensor, None]:
        fields = ctx.fields
        total = torch.zeros(ctx.shape) if of_table is None else of_table.detach()
        if gradient is not None:
            values = gradient.detach().float().contiguous()
            threads = _threads(len(values) * len(fields.columns))
            _native.scatter_fields(values, fields.places, fields.columns, total, threads)
        return total, None


def _threads(rows: int) -> int:
    return torch.get_num_threads() if rows >= _WORTH_THREADS else 1
