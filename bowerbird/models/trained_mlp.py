"""Hidden layers in training on a CPU: all of an MLP as one native pass each way, on tile registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native
from bowerbird.models.hidden import HiddenActivation, new_seeds, track
from bowerbird.models.trained_linear import Linear, holds_floats, is_tiled, suits_products

_Pair: TypeAlias = tuple[Linear, HiddenActivation]
_PARAMETERS = 4
"""Of a layer: weights, bias, and batch norm's gain and offset, None where there is none."""
_BITS = 32


def whole_mlp(modules: Sequence[nn.Module], x: Tensor) -> Tensor | None:
    """Return what linear layers and their activations, in turns, make of ``x`` [..., inputs]: bfloat16 [..., width].

    Batch norm's running statistics follow. None where the native passes do not take them.
    """
    pairs = _pairs(modules)
    if not pairs or not is_tiled(x) or not all(_is_plain(*pair) for pair in pairs) or not _are_alike(pairs):
        return None
    flat = x.reshape(-1, x.shape[-1])
    moments = [_room_for_moments(activation.norm) for _, activation in pairs]
    keep = 1 - pairs[0][1].dropout
    seeds = new_seeds(keep, len(pairs))
    parameters = [each for pair in pairs for each in _parameters(*pair)]
    out: Tensor = _Hidden.apply(flat, keep, _epsilon(pairs[0][1]), seeds, moments, *parameters)  # type: ignore[no-untyped-call]
    norms = [activation.norm for _, activation in pairs if activation.norm is not None]
    if norms:
        means, variances = ([each for each in column if each is not None] for column in zip(*moments, strict=True))
        track(norms, means, variances, len(flat))
    return out.view(*x.shape[:-1], -1)


def _pairs(modules: Sequence[nn.Module]) -> list[_Pair]:
    """Return linear layers with their activations; none unless all modules are such."""
    pairs = list(zip(modules[::2], modules[1::2], strict=False))
    known = [(a, b) for a, b in pairs if type(a) is Linear and type(b) is HiddenActivation]
    return known if 2 * len(known) == len(modules) else []


def _is_plain(layer: Linear, activation: HiddenActivation) -> bool:
    if not (layer.training and holds_floats(layer) and layer.bias is not None and suits_products(layer)):
        return False
    norm = activation.norm
    return activation.training and not _is_hooked(activation) and (norm is None or _is_plain_norm(norm))


def _is_plain_norm(norm: nn.BatchNorm1d) -> bool:
    plain = type(norm) is nn.BatchNorm1d and norm.training and not _is_hooked(norm)
    return plain and norm.affine and norm.track_running_stats and norm.momentum is not None and _holds_floats(norm)


def _holds_floats(norm: nn.BatchNorm1d) -> bool:
    return norm.weight.dtype == torch.float32 and norm.bias.dtype == torch.float32


def _is_hooked(module: nn.Module) -> bool:
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hooks)


def _are_alike(pairs: Sequence[_Pair]) -> bool:
    return len({(activation.dropout, _epsilon(activation), _momentum(activation)) for _, activation in pairs}) == 1


def _epsilon(activation: HiddenActivation) -> float:
    return 0.0 if activation.norm is None else activation.norm.eps


def _momentum(activation: HiddenActivation) -> float | None:
    return None if activation.norm is None else activation.norm.momentum


def _parameters(layer: Linear, activation: HiddenActivation) -> tuple[Tensor | None, ...]:
    norm = activation.norm
    return layer.weight, layer.bias, None if norm is None else norm.weight, None if norm is None else norm.bias


def _room_for_moments(norm: nn.BatchNorm1d | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if norm is None else (torch.empty_like(norm.weight), torch.empty_like(norm.weight))


class _Hidden(torch.autograd.Function):
    """Linear, batch norm, rectifier and dropout, for each layer; a layer's values are kept in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keep: float, epsilon: float, seeds: list[int],
        moments: list[tuple[Tensor | None, Tensor | None]], *parameters: Tensor | None,
    ) -> Tensor:  # fmt: skip
        x, rows = x.detach().contiguous(), x.shape[0]
        given = [None if each is None else each.detach().contiguous() for each in parameters]
        widths = [bias.shape[0] for bias in given[1::_PARAMETERS] if bias is not None]
        words = [(width + _BITS - 1) // _BITS for width in widths]
        values = [torch.empty(rows, _BITS * count, dtype=torch.bfloat16) for count in words]
        kept = [torch.empty(rows, count, dtype=torch.int32) for count in words]
        made = zip(values, kept, moments, strict=True)
        arrays = [*given, *(each for one, bits, two in made for each in (one, bits, *two))]
        out = torch.empty(rows, widths[-1], dtype=torch.bfloat16)
        _native.mlp_forward(x, _layers(arrays, seeds), keep, epsilon, out, torch.get_num_threads())
        ctx.save_for_backward(x, *arrays)
        ctx.keep, ctx.epsilon, ctx.seeds = keep, epsilon, seeds
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *arrays = ctx.saved_tensors
        parameters = arrays[: _PARAMETERS * len(ctx.seeds)]
        of_x = torch.empty_like(x)
        of_parameters = [None if each is None else torch.empty_like(each) for each in parameters]
        _native.mlp_backward(
            x, _layers(arrays, ctx.seeds), ctx.keep, ctx.epsilon, gradient.detach().contiguous(), of_x,
            _by_layer(of_parameters), torch.get_num_threads(),
        )  # fmt: skip
        return of_x, None, None, None, None, *of_parameters


def _by_layer(arrays: Sequence[Tensor | None]) -> list[tuple[Tensor | None, ...]]:
    return [tuple(arrays[at : at + _PARAMETERS]) for at in range(0, len(arrays), _PARAMETERS)]


def _layers(arrays: Sequence[Tensor | None], seeds: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return the native pass's layers: parameters, then values, what is kept and moments, and the seed."""
    count, four = len(seeds), _by_layer(arrays)
    return [(*first, *second, seed) for first, second, seed in zip(four[:count], four[count:], seeds, strict=True)]
