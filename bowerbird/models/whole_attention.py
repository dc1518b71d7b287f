"""Target attention in training as one native pass each way, on tile registers: samples pass all layers in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.models.trained_linear import holds_floats, is_tiled

UNMET = -1
"""Where a part of the events meets no part of the query."""

_Scorer = tuple[list[Tensor], list[Tensor], Tensor, Tensor]
_Given = tuple[list[Tensor], list[int], Tensor, Tensor, Tensor, list[Tensor], list[Tensor], Tensor, Tensor, bool]


@dataclass(frozen=True)
class Scorer:
    """What gives an event its weight: the first layer's matrix [hidden, event + query], then later weights and biases.

    All but the last, which has one output, end in a rectifier.
    """

    matrix: Tensor
    layers: list[tuple[Tensor, Tensor]]


def takes_whole(parts: Sequence[Tensor], query: Tensor, layers: Sequence[nn.Linear]) -> bool:
    """Say whether the pass takes events in ``parts`` [rows, length, width], queries [rows, width] and these layers."""
    fits = all(part.shape[0] == query.shape[0] and part.numel() > 0 for part in parts)
    floats = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in (*parts, query))
    return fits and floats and is_tiled(query) and all(holds_floats(layer) for layer in layers)


def whole(
    parts: Sequence[Tensor],
    meets: Sequence[int],
    mask: Tensor,
    query: Tensor,
    shift: Tensor,
    scorer: Scorer,
    scaled: bool,
) -> Tensor:
    """Return the sums of events by their weights, float32 [rows, width of all parts].

    Events come in ``parts``, float32 [rows, length, width]; ``meets`` says where in the query the columns begin that
    a part is multiplied by, or UNMET. Events that ``mask`` [rows, length] leaves out count for nothing. ``shift``
    [rows, hidden] is what the query adds to the first layer. With ``scaled`` sums are divided by the root of the
    number of events.
    """
    weights, biases = zip(*scorer.layers, strict=True)
    parameters = (scorer.matrix, *weights, *biases)
    call = _Call(tuple(meets), scaled, len(parts))
    sums: Tensor = _Whole.apply(call, mask, query, shift.float(), *parts, *parameters)  # type: ignore[no-untyped-call]
    return sums


@dataclass(frozen=True)
class _Call:
    meets: tuple[int, ...]
    scaled: bool
    parts: int

    def arguments(self, mask: Tensor, query: Tensor, shift: Tensor, *arrays: Tensor) -> _Given:
        """Return what both ways begin with."""
        parts, scorer = arrays[: self.parts], self.scorer(arrays[self.parts :])
        return (list(parts), list(self.meets), mask, query, shift, *scorer, self.scaled)

    @staticmethod
    def scorer(arrays: Sequence[Tensor]) -> _Scorer:
        """Return weights and biases of the layers, then the last one's."""
        weights, biases = arrays[: len(arrays) // 2 + 1], arrays[len(arrays) // 2 + 1 :]
        return list(weights[:-1]), list(biases[:-1]), weights[-1].view(-1), biases[-1]


class _Whole(torch.autograd.Function):
    """Σ weight · event over a row's events."""

    @staticmethod
    def forward(ctx: Any, call: _Call, mask: Tensor, *given: Tensor) -> Tensor:
        mask, *arrays = (each.detach().contiguous() for each in (mask, *given))
        width = sum(part.shape[2] for part in arrays[2 : 2 + call.parts])
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
        needed = ctx.needs_input_grad[4 : 4 + call.parts]
        of_query, of_shift, *others = (torch.empty_like(each) for each in arrays)
        of_parts = [of if wanted else None for of, wanted in zip(others, needed, strict=False)]
        of_scorer = others[call.parts :]
        _native.attention_backward(
            *call.arguments(mask, *arrays), gradient.detach().contiguous(), of_parts, of_query, of_shift,
            *call.scorer(of_scorer), torch.get_num_threads(),
        )  # fmt: skip
        return None, None, of_query, of_shift, *of_parts, *of_scorer
