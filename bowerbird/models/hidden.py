"""A hidden layer's batch norm, rectifier and dropout as one native pass each way, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bowerbird import _native

_SUPPORTED = (torch.float32, torch.bfloat16)


class HiddenActivation(nn.Module):
    """Batch normalisation where asked for, a rectifier, and dropout: [..., width] → [..., width].

    In training on a CPU all of it is one native pass over the values forward and two backward, in the dtype of
    the input (float32 or bfloat16), statistics in float32. Dropout's mask is a hash of a seed that PyTorch's
    generator draws, so that a seeded run repeats. Elsewhere (evaluation, export, other devices) plain PyTorch
    does the same arithmetic. Statistics are over all leading dimensions.
    """

    def __init__(self, width: int, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if batch_norm else None
        self.dropout = dropout

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., width]."""
        if not self.training or torch.compiler.is_compiling() or not _is_supported(values):
            return self._plain(values)
        flat = values.reshape(-1, values.shape[-1])
        if self.norm is None:
            return _Rectified.apply(flat, 1 - self.dropout).view(values.shape)  # type: ignore[no-any-return, no-untyped-call]
        return self._normalised(flat).view(values.shape)

    def _plain(self, values: Tensor) -> Tensor:
        if self.norm is not None:
            flat = values if values.dim() == 2 else values.flatten(0, -2)
            values = self.norm(flat).view(values.shape)
        return nn.functional.dropout(nn.functional.relu(values), self.dropout, self.training)

    def _normalised(self, flat: Tensor) -> Tensor:
        norm = self.norm
        assert norm is not None
        result, mean, variance = _Normalised.apply(flat, norm.weight, norm.bias, 1 - self.dropout, norm.eps)  # type: ignore[no-untyped-call]
        track([norm], [mean], [variance], flat.shape[0])
        return result  # type: ignore[no-any-return]


def track(norms: list[nn.BatchNorm1d], means: list[Tensor], variances: list[Tensor], rows: int) -> None:
    """Take a batch's statistics, float32 [width], into the running ones of norms of one momentum, as PyTorch does."""
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    running_means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    running_variances = [norm.running_var for norm in norms if norm.running_var is not None]
    (momentum,) = {norm.momentum for norm in norms}
    assert momentum is not None and len(counts) == len(running_means) == len(running_variances) == len(norms)
    with torch.no_grad():
        torch._foreach_add_(counts, 1)
        _native.follow(running_means, means, momentum)
        _native.follow(running_variances, variances, momentum, rows / max(rows - 1, 1))


def _is_supported(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype in _SUPPORTED and values.numel() > 0


def new_seeds(keep: float, count: int = 1) -> list[int]:
    """Return new seeds of dropout from PyTorch's generator; without dropout none is drawn."""
    return torch.randint(1 << 62, (count,)).tolist() if keep < 1 else [0] * count


class _Rectified(torch.autograd.Function):
    """relu(x), then dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: float) -> Tensor:
        x = x.detach().contiguous()
        y = torch.empty_like(x)
        _native.hidden_forward(x, y, None, None, keep, new_seeds(keep)[0], torch.get_num_threads())
        ctx.save_for_backward(y)
        ctx.keep = keep
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        gradient_x = torch.empty_like(y)
        given = (y.detach(), y.detach(), gradient.detach().contiguous(), gradient_x)
        _native.hidden_backward(*given, None, None, None, None, None, ctx.keep, torch.get_num_threads())
        return gradient_x, None


class _Normalised(torch.autograd.Function):
    """Batch norm with the batch's statistics, relu, then dropout; returns the statistics, too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, keep: float, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = x.detach().contiguous(), weight.detach()
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        threads = torch.get_num_threads()
        _native.column_moments(x, mean, variance, threads)
        inverse = (variance + epsilon).rsqrt()
        scale = weight * inverse
        y = torch.empty_like(x)
        _native.hidden_forward(x, y, scale, bias.detach() - mean * scale, keep, new_seeds(keep)[0], threads)
        ctx.save_for_backward(x, y, mean, inverse, weight)
        ctx.keep = keep
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, y, mean, inverse, weight = ctx.saved_tensors
        gradient_x = torch.empty_like(x)
        gradient_weight, gradient_bias = torch.empty_like(weight), torch.empty_like(weight)
        _native.hidden_backward(
            x, y, gradient.detach().contiguous(), gradient_x, mean, inverse, weight, gradient_weight, gradient_bias,
            ctx.keep, torch.get_num_threads(),
        )  # fmt: skip
        return gradient_x, gradient_weight, gradient_bias, None, None
