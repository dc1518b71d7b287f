"""Adam of many parameters in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam(torch.optim.Adam):
    """PyTorch's fused Adam, bit for bit, less what its own step asks about each parameter each time.

    That costs about as much as the arithmetic of half a million parameters.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float) -> None:
        super().__init__(parameters, lr=learning_rate, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        (group,) = self.param_groups
        moved = [value for value in group["params"] if value.grad is not None]
        if closure is None and moved and all(self.state.get(value) for value in moved):
            self._update(group, moved)
            return None
        loss: float | None = super().step(closure)
        return loss

    def _update(self, group: dict[str, Any], values: list[Tensor]) -> None:
        gradients = [value.grad for value in values if value.grad is not None]
        states = [self.state[value] for value in values]
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        adam(
            values, gradients, means, squares, [], steps, fused=True, amsgrad=False, beta1=beta1, beta2=beta2,
            lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip
