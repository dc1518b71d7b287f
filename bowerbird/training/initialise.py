"""How dense layers begin."""

from __future__ import annotations

import torch
from torch import nn

from bowerbird.models.trained_linear import Linear


def start_linear_layers(model: nn.Module) -> None:
    """Draw the matrices of plain linear layers from Glorot and Bengio's normal distribution; biases become zero.

    Other subclasses of ``nn.Linear``, which begin in a way of their own, are left as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and type(module) in (nn.Linear, Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                with torch.no_grad():
                    module.bias.zero_()
