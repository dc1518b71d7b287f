"""Gates that weigh every value of the inputs by a context (feature selection of FinalMLP, Mao et al., 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import CategoryInput, Inputs
from bowerbird.errors import InputError
from bowerbird.models.layers import MLP
from bowerbird.models.split_rows import narrow_inputs
from bowerbird.models.trained_linear import Linear
from bowerbird.plan.mistake import nearest


class FeatureGate(nn.Module):
    """2 σ(MLP(context)), between 0 and 2: [rows, width], or [1, width] without a context, where it is learned alone.

    The context are the embeddings of some categories; with ``own`` the columns of their rows from that one on, which
    nothing else reads (see ``context_inputs``).
    """

    def __init__(
        self,
        inputs: Inputs,
        context: tuple[str, ...],
        own: int | None,
        dimension: int,
        hidden: tuple[int, ...],
        width: int,
    ) -> None:
        super().__init__()
        self.context = context
        self.first = own or 0
        widths = {item.name: item.dimension - self.first for item in inputs.categories}
        self.constant = None if context else nn.Parameter(torch.zeros(1, dimension))
        self.mlp = MLP(sum(widths[name] for name in context) or dimension, hidden, dropout=0.0)
        self.gate = Linear(self.mlp.width, width)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows or 1, width]."""
        if self.constant is None:
            context = torch.cat([features[name][:, self.first :] for name in self.context], dim=-1)
        else:
            context = self.constant
        return 2 * torch.sigmoid(self.gate(self.mlp(context)))


def context_inputs(inputs: Inputs, contexts: tuple[tuple[str, ...], ...], own: int | None) -> Inputs:
    """Return what the rest of a model reads: with ``own`` the contexts' vocabularies are cut to so many columns.

    Raises InputError for a context that is no category, or whose rows have no column beyond ``own``.
    """
    known = {item.name: item for item in inputs.categories}
    for name in (name for context in contexts for name in context):
        if name not in known:
            raise InputError(f"There is no category {name!r} for a gate to look at.", nearest(name, list(known)))
        if own is not None and known[name].dimension <= own:
            raise InputError(
                f"Rows of {known[name].vocabulary!r} have {known[name].dimension} columns, none beyond {own}.",
                f"Set embedding.dimensions of {known[name].vocabulary!r} to {2 * own}.",
            )
    shared = {known[name].vocabulary for context in contexts for name in context}

    def width(item: CategoryInput) -> int:
        return item.dimension if own is None or item.vocabulary not in shared else own

    return narrow_inputs(inputs, width)
