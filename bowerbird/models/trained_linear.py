"""Linear layers in training on a CPU, as native passes where those are faster than PyTorch's products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bowerbird import _native
from bowerbird.errors import InputError

_NARROW = 8
"""A layer of so few outputs is a pass over its inputs; a matrix product is better for more."""
_SUPPORTED = (torch.float32, torch.bfloat16)


class Linear(nn.Linear):
    """PyTorch's layer, [..., inputs] → [..., outputs], which may be given its inputs in parts, end to end.

    In training on a CPU few outputs are summed in float32 whatever the inputs are, over parts that are never joined;
    more are, under bfloat16's autocast and where the processor has tile registers (AMX), native products that round
    their factors themselves and give the weights' gradients in float32. Elsewhere it is plain PyTorch.
    """

    def forward(self, *parts: Tensor) -> Tensor:
        """Return [..., outputs]: float32 or, where PyTorch's autocast or the native products say so, bfloat16."""
        if self.training and not torch.compiler.is_compiling() and holds_floats(self):
            if is_narrow(self, parts):
                return narrow_linear(self, parts)
            if len(parts) == 1:
                return linear(parts[0], self.weight, self.bias)
        return functional.linear(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1), self.weight, self.bias)


def holds_floats(layer: nn.Linear) -> bool:
    """Say whether a layer is plain and its parameters are float32: what native passes read and give gradients of."""
    hooked = layer._forward_pre_hooks or layer._forward_hooks
    bias = layer.bias
    return not hooked and layer.weight.dtype == torch.float32 and (bias is None or bias.dtype == torch.float32)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x weight^T + bias in training: natively where that is faster."""
    if not is_tiled(x):
        return functional.linear(x, weight, bias)
    flat: Tensor = _Tiled.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], -1)


def suits_products(layer: nn.Linear) -> bool:
    """Say whether a layer has so many outputs that a product is better than a pass over its inputs."""
    return layer.out_features > _NARROW


def is_narrow(layer: nn.Linear, parts: Sequence[Tensor]) -> bool:
    """Say whether the native pass of few outputs takes these parts [..., width], end to end the layer's inputs."""
    before = parts[0].shape[:-1]
    return not suits_products(layer) and all(part.shape[:-1] == before and _is_plain(part) for part in parts)


def narrow_linear(layer: nn.Linear, parts: Sequence[Tensor]) -> Tensor:
    """Return the layer of its parts, float32 [..., outputs], with float32 sums whatever the parts' dtype is."""
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    out: Tensor = _Narrow.apply(layer.weight, layer.bias, *flat)  # type: ignore[no-untyped-call]
    return out.view(*parts[0].shape[:-1], -1)


def _is_plain(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in _SUPPORTED and x.numel() > 0


def is_tiled(x: Tensor) -> bool:
    """Say whether products of ``x`` are native: on tile registers, under bfloat16's autocast."""
    return lowered_dtype() == torch.bfloat16 and _is_plain(x) and _has_tiles()


def lowered_dtype() -> torch.dtype:
    """Return the dtype of products: autocast's, or float32."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _has_tiles() -> bool:
    try:
        return _native.has_tiles()
    except ValueError as error:
        raise InputError(str(error)) from error


class _Tiled(torch.autograd.Function):
    """x W^T + b in bfloat16, on tile registers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.detach().contiguous(), weight.detach().contiguous()
        out = torch.empty(x.shape[0], weight.shape[0], dtype=torch.bfloat16)
        _native.linear_forward(x, weight, None if bias is None else bias.detach(), out, torch.get_num_threads())
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient, threads = gradient.detach().contiguous(), torch.get_num_threads()
        of_weight = torch.empty_like(weight)
        of_bias = torch.empty(weight.shape[0], dtype=torch.float32) if ctx.has_bias else None
        _native.linear_weight_gradient(gradient, x, of_weight, of_bias, threads)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias
        of_x = torch.empty_like(x)
        _native.linear_input_gradient(gradient, weight, of_x, threads)
        return of_x, of_weight, of_bias


class _Narrow(torch.autograd.Function):
    """Σ x W^T + b over parts x and the columns of W that are theirs."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, *parts: Tensor) -> Tensor:
        weight, given = weight.detach().contiguous(), [part.detach().contiguous() for part in parts]
        out = torch.empty(given[0].shape[0], weight.shape[0])
        added = None if bias is None else bias.detach()
        _native.narrow_forward(given, weight, added, out, torch.get_num_threads())
        ctx.save_for_backward(weight, *given)
        ctx.has_bias = bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *parts = ctx.saved_tensors
        of_weight, of_parts = torch.empty_like(weight), [torch.empty_like(part) for part in parts]
        of_bias = torch.empty(weight.shape[0]) if ctx.has_bias else None
        gradient = gradient.detach().contiguous()
        _native.narrow_backward(parts, weight, gradient, of_parts, of_weight, of_bias, torch.get_num_threads())
        return of_weight, of_bias, *of_parts
