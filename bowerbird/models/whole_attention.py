"""Target attention in training as one native pass each way, on tile registers: samples pass all layers in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.embedding.deferred import TableRows
from bowerbird.models.trained_linear import holds_floats, is_tiled

UNMET = -1
"""Where a part of the events meets no part of the query."""

Part: TypeAlias = Tensor | TableRows
_Scorer = tuple[list[Tensor], list[Tensor], Tensor, Tensor]
_Gradients = list[Tensor | None]
_Rows = list[npt.NDArray[np.int32] | None]
_Given = tuple[list[Tensor], _Rows, list[int], Tensor, Tensor, Tensor, list[Tensor], list[Tensor], Tensor, Tensor, bool]


@dataclass(frozen=True)
class Scorer:
    """What gives an event its weight: the first layer's matrix [hidden, event + query], then later weights and biases.

    All but the last, which has one output, end in a rectifier.
    """

    matrix: Tensor
    layers: list[tuple[Tensor, Tensor]]


def takes_whole(parts: Sequence[Part], query: Tensor, layers: Sequence[nn.Linear]) -> bool:
    """Say whether the pass takes events in ``parts`` [rows, length, width], queries [rows, width] and these layers."""
    shapes = [part.shape for part in parts]
    arrays = [*(_array(part) for part in parts), query]
    fits = all(shape[0] == query.shape[0] and shape.numel() > 0 for shape in shapes)
    floats = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in arrays)
    return fits and floats and is_tiled(query) and all(holds_floats(layer) for layer in layers)


def whole(
    parts: Sequence[Part],
    meets: Sequence[int],
    mask: Tensor,
    query: Tensor,
    shift: Tensor,
    scorer: Scorer,
    scaled: bool,
) -> Tensor:
    """Return the sums of events by their weights, float32 [rows, width of all parts].

    Events come in ``parts``, float32 [rows, length, width]; those that are rows of tables are read there, and their
    gradients are added to the table's. ``meets`` says where in the query the columns begin that a part is multiplied
    by, or UNMET. Events that ``mask`` [rows, length] leaves out count for nothing. ``shift`` [rows, hidden] is what the
    query adds to the first layer. With ``scaled`` sums are divided by the root of the number of events.
    """
    weights, biases = zip(*scorer.layers, strict=True)
    parameters = (scorer.matrix, *weights, *biases)
    ranges = [slice(part.start, part.end) if isinstance(part, TableRows) else None for part in parts]
    rows = [np.ascontiguousarray(part.rows, np.int32) if isinstance(part, TableRows) else None for part in parts]
    call = _Call(tuple(meets), scaled, ranges, rows)
    arrays = (*(_array(part) for part in parts), *parameters)
    sums: Tensor = _Whole.apply(call, mask, query, shift.float(), *arrays)  # type: ignore[no-untyped-call]
    return sums


def _array(part: Part) -> Tensor:
    """Return where a part's events stand."""
    return part.table.rows if isinstance(part, TableRows) else part


@dataclass(frozen=True)
class _Call:
    meets: tuple[int, ...]
    scaled: bool
    ranges: list[slice | None]
    rows: _Rows

    def arguments(self, mask: Tensor, query: Tensor, shift: Tensor, *arrays: Tensor) -> _Given:
        """Return what both ways begin with."""
        count = len(self.ranges)
        parts = [_own(array, rows) for array, rows in zip(arrays[:count], self.ranges, strict=True)]
        return (parts, self.rows, list(self.meets), mask, query, shift, *self.scorer(arrays[count:]), self.scaled)

    def gradients(self, arrays: Sequence[Tensor], needed: Sequence[bool]) -> tuple[_Gradients, _Gradients]:
        """Return the parts' gradients, and those of their arrays: a table's is zeros and given to its first part."""
        of_tables: dict[int, Tensor] = {}
        of_parts: _Gradients = []
        of_arrays: _Gradients = []
        for array, wanted, rows in zip(arrays, needed, self.ranges, strict=True):
            made = torch.empty_like(array) if rows is None and wanted else None
            if rows is not None and wanted and array.data_ptr() not in of_tables:
                made = of_tables[array.data_ptr()] = torch.zeros_like(array)
            of_parts.append(made if rows is None or not wanted else of_tables[array.data_ptr()][rows])
            of_arrays.append(made)
        return of_parts, of_arrays

    @staticmethod
    def scorer(arrays: Sequence[Tensor]) -> _Scorer:
        """Return weights and biases of the layers, then the last one's."""
        weights, biases = arrays[: len(arrays) // 2 + 1], arrays[len(arrays) // 2 + 1 :]
        return list(weights[:-1]), list(biases[:-1]), weights[-1].view(-1), biases[-1]


def _own(array: Tensor, rows: slice | None) -> Tensor:
    """Return what of an array is a part's: all of it, or a vocabulary's rows of a table."""
    return array if rows is None else array[rows]


class _Whole(torch.autograd.Function):
    """Σ weight · event over a row's events."""

    @staticmethod
    def forward(ctx: Any, call: _Call, mask: Tensor, *given: Tensor) -> Tensor:
        mask, *arrays = (each.detach().contiguous() for each in (mask, *given))
        width = sum(part.shape[-1] for part in arrays[2 : 2 + len(call.ranges)])
        out = torch.empty(mask.shape[0], width, dtype=torch.float32)
        _native.attention_forward(*call.arguments(mask, *arrays), out, torch.get_num_threads())
        ctx.save_for_backward(mask, *arrays)
        ctx.call = call
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mask, *arrays = ctx.saved_tensors
        call: _Call = ctx.call
        of_query, of_shift, *of_scorer = (
            torch.empty_like(each) for each in (*arrays[:2], *arrays[2 + len(call.ranges) :])
        )
        parts = arrays[2 : 2 + len(call.ranges)]
        of_parts, of_arrays = call.gradients(parts, ctx.needs_input_grad[4 : 4 + len(parts)])
        _native.attention_backward(
            *call.arguments(mask, *arrays), gradient.detach().contiguous(), of_parts, of_query, of_shift,
            *call.scorer(of_scorer), torch.get_num_threads(),
        )  # fmt: skip
        return None, None, of_query, of_shift, *of_arrays, *of_scorer
