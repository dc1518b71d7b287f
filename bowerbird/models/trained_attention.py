"""Target attention in training on a CPU as native passes: its first layer's inputs, its rectifier, its sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.models.trained_linear import linear

Parts = list[tuple[int, int, int]]
"""Where parts of the query meet parts of an event: (first column of the query, of the event, columns)."""


def is_trainable(events: Tensor, query: Tensor) -> bool:
    """Say whether the native passes take these events [rows, length, width] and queries [rows, width]."""
    fits = events.shape[0] == query.shape[0] and events.numel() > 0
    return fits and events.device.type == "cpu" and events.dtype == query.dtype == torch.float32


def first_layer(
    events: Tensor, query: Tensor, parts: Parts, matrix: Tensor, of_query: Tensor
) -> tuple[Tensor, Tensor]:
    """Return relu(``matrix`` [event, query · event] + ``of_query``), [rows, length, hidden], and the events.

    ``matrix`` is [hidden, event + query], ``of_query`` [rows, hidden]. Use the events that come back, not those given:
    both gradients then meet in one pass. Under autocast inputs and results have its dtype.
    """
    enabled = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if enabled else torch.float32
    inputs, events = _Inputs.apply(events, query, parts, dtype)  # type: ignore[no-untyped-call]
    first = linear(inputs, matrix, None)
    return _ShiftedRectifier.apply(first, of_query.to(first.dtype)), events  # type: ignore[no-untyped-call]


def pooled(weights: Tensor, events: Tensor) -> Tensor:
    """Return the sums of events [rows, length, width] by their weights [rows, length], float32 [rows, width]."""
    sums: Tensor = _Pool.apply(weights.float(), events)  # type: ignore[no-untyped-call]
    return sums


class _Inputs(torch.autograd.Function):
    """Each event, then its products with the query, in ``dtype``; and the events themselves."""

    @staticmethod
    def forward(ctx: Any, events: Tensor, query: Tensor, parts: Parts, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        events, query = events.detach().contiguous(), query.detach().contiguous()
        inputs = torch.empty(*events.shape[:2], events.shape[2] + query.shape[1], dtype=dtype)
        _native.attention_inputs(events, query, parts, inputs, torch.get_num_threads())
        ctx.save_for_backward(events, query)
        ctx.parts = parts
        return inputs, events

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_events: Tensor | None) -> tuple[Tensor, Tensor, None, None]:
        events, query = (each.detach() for each in ctx.saved_tensors)
        total = torch.zeros_like(events) if of_events is None else of_events.detach().contiguous()
        of_query = torch.empty_like(query)
        given = (gradient.detach().contiguous(), events, query, ctx.parts)
        _native.attention_inputs_backward(*given, total, of_query, torch.get_num_threads())
        return total, of_query, None, None


class _ShiftedRectifier(torch.autograd.Function):
    """relu(x + shift) with one shift for all events of a row; written over x, which nothing else reads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor) -> Tensor:
        y = x.detach().contiguous()
        _native.shifted_rectifier(y, shift.detach().contiguous(), torch.get_num_threads())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        of_x, of_shift = torch.empty_like(y), torch.empty(y.shape[0], y.shape[2], dtype=torch.float32)
        _native.shifted_rectifier_backward(
            y.detach(), gradient.detach().contiguous(), of_x, of_shift, torch.get_num_threads()
        )
        return of_x, of_shift.to(y.dtype)


class _Pool(torch.autograd.Function):
    """Σ weight · event over a row's events, in float32."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, events: Tensor) -> Tensor:
        weights, events = weights.detach().contiguous(), events.detach().contiguous()
        out = torch.empty(events.shape[0], events.shape[2], dtype=torch.float32)
        _native.pool_events(weights, events, out, torch.get_num_threads())
        ctx.save_for_backward(weights, events)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weights, events = ctx.saved_tensors
        of_weights, of_events = torch.empty_like(weights), torch.empty_like(events)
        given = (weights, events, gradient.detach().contiguous())
        _native.pool_events_backward(*given, of_weights, of_events, torch.get_num_threads())
        return of_weights, of_events
