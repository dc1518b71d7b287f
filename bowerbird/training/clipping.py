"""Gradients whose common norm is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bowerbird import _native

_MARGIN = 1e-6
"""What PyTorch adds to a norm that it divides by."""


def clip_gradients(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Scale all gradients down to the norm ``most``; those within it are not touched, and where it is 0 none are."""
    if not most:
        return
    norm = gradient_norm([each.grad for each in parameters if each.grad is not None])
    if not norm + _MARGIN <= most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, torch.tensor(norm))


def gradient_norm(gradients: Sequence[Tensor]) -> float:
    """Return the length of all gradients as one vector."""
    if all(_is_plain(each) for each in gradients):
        return _native.norm(gradients, torch.get_num_threads())
    return float(torch.nn.utils.get_total_norm(gradients))


def _is_plain(gradient: Tensor) -> bool:
    return gradient.dtype == torch.float32 and gradient.layout == torch.strided and gradient.is_contiguous()
