"""Cross networks in training on a CPU: a layer, or the whole network, as one native pass each way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.models.trained_linear import holds_floats, is_tiled, lowered_dtype

Crossed = tuple[Tensor, Tensor, Tensor]
"""A layer's values in float32, the same in the matrices' dtype, and the network's input, to be used from here on."""


def is_trainable(first: Tensor) -> bool:
    """Say whether the native passes take a network's input [rows, width]."""
    plain = first.device.type == "cpu" and first.dtype == torch.float32 and first.dim() == 2 and first.numel() > 0
    return plain and lowered_dtype() in (torch.float32, torch.bfloat16)


def whole_network(layers: Sequence[nn.Module], first: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what full-rank layers make of ``first`` on tile registers, and ``first``, to be used from here on.

    None where they are not of full rank, or there are none.
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear) and layer.bias is not None]
    full = [layer for layer in linear if holds_floats(layer)]
    if not layers or len(full) < len(layers) or not is_tiled(first):
        return None
    parameters = [*(layer.weight for layer in full), *(layer.bias for layer in full)]
    found: tuple[Tensor, Tensor] = _Network.apply(first, *parameters)  # type: ignore[no-untyped-call]
    return found


def started(first: Tensor) -> Crossed:
    """Return what the first layer begins with."""
    return first, first.to(lowered_dtype()), first


def crossed(product: Tensor, before: Crossed) -> Crossed:
    """Return first * ``product`` + the values before.

    ``product`` [rows, width] is what the layer's matrix made of those. The gradients of a layer's values, of
    their low copy and of the network's input meet in one pass.
    """
    values, _, first = before
    found: Crossed = _Layer.apply(first, product, values)  # type: ignore[no-untyped-call]
    return found


class _Layer(torch.autograd.Function):
    """first * product + crossed, as it is and in the product's dtype; and the input, so that its gradients add up."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, product: Tensor, crossed: Tensor) -> Crossed:
        first, product, crossed = (each.detach().contiguous() for each in (first, product, crossed))
        result, low = torch.empty_like(crossed), torch.empty_like(product)
        _native.cross_forward(first, product, crossed, result, low, torch.get_num_threads())
        ctx.save_for_backward(first, product)
        ctx.set_materialize_grads(False)
        return result, low, first

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        first, product = (each.detach() for each in ctx.saved_tensors)
        of_next, of_low, later = (None if each is None else each.detach().contiguous() for each in gradients)
        of_crossed, of_product, of_first = torch.empty_like(first), torch.empty_like(product), torch.empty_like(first)
        _native.cross_backward(
            first, product, of_next, of_low, later, of_crossed, of_product, of_first, torch.get_num_threads()
        )
        return of_first, of_product, of_crossed


class _Network(torch.autograd.Function):
    """All layers of x = first * (W x + b) + x, row by row; and the input, so that its gradients add up."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        first, layers = first.detach().contiguous(), len(parameters) // 2
        arrays = [each.detach().contiguous() for each in parameters]
        shape = (layers * first.shape[0], first.shape[1])
        given, products = (torch.empty(shape, dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(first)
        weights, biases = arrays[:layers], arrays[layers:]
        _native.cross_network_forward(first, weights, biases, given, products, out, torch.get_num_threads())
        ctx.save_for_backward(first, given, products, *arrays)
        ctx.set_materialize_grads(False)
        return out, first

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, elsewhere: Tensor | None) -> tuple[Tensor, ...]:
        first, given, products, *arrays = ctx.saved_tensors
        layers = len(arrays) // 2
        of_out = torch.zeros_like(first) if gradient is None else gradient.detach().contiguous()
        of_input = None if elsewhere is None else elsewhere.detach().contiguous()
        of_first, of_arrays = torch.empty_like(first), [torch.empty_like(each) for each in arrays]
        _native.cross_network_backward(
            first, arrays[:layers], arrays[layers:], given, products, of_out, of_input, of_first, of_arrays[:layers],
            of_arrays[layers:], torch.get_num_threads(),
        )  # fmt: skip
        return of_first, *of_arrays
