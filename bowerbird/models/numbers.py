"""How models read numbers: unknown values, wide ranges, piecewise-linear bins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bowerbird.models.ranker import NumberColumns, NumberFitted


def symmetric_log(values: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x|), which tames counts, seconds and signed amounts alike."""
    return torch.sign(values) * torch.log1p(torch.abs(values))


class StandardNumbers(NumberFitted):
    """Numbers as (symmetric log - mean) / deviation and an indicator of the unknown.

    ``forward`` returns float32 [..., 2 * names]; unknown values become the mean. Names are tensors of one
    shape. Values beyond 8 deviations are cut, so that one outlier in a request cannot move a score without
    bound.
    """

    limit = 8.0

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("scale", torch.ones(len(names)))
        self.mean: Tensor
        self.scale: Tensor

    @property
    def width(self) -> int:
        """How many values ``forward`` returns."""
        return 2 * len(self.names)

    def fit(self, columns: NumberColumns) -> None:
        """Take means and deviations from the known values; a constant column keeps scale 1."""
        for position, name in enumerate(self.names):
            known = _known(columns[name])
            if not len(known):
                continue
            values = np.sign(known) * np.log1p(np.abs(known))
            deviation = float(values.std())
            self.mean[position] = float(values.mean())
            self.scale[position] = 1 / deviation if deviation > 1e-6 else 1.0

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return float32 [..., 2 * names]: standardised values, then indicators of the unknown."""
        raw = torch.stack([features[name] for name in self.names], dim=-1)
        unknown = torch.isnan(raw)
        if self.training and not raw.requires_grad and not torch.compiler.is_compiling():
            return self._in_place(torch.nan_to_num(raw), unknown)
        logged = symmetric_log(torch.nan_to_num(raw))
        values = ((logged - self.mean) * self.scale).clamp(-self.limit, self.limit)
        return torch.cat([values.masked_fill(unknown, 0.0), unknown.to(values.dtype)], dim=-1)

    def _in_place(self, known: Tensor, unknown: Tensor) -> Tensor:
        """Return the same with fewer passes over memory."""
        values = known.abs().log1p_().copysign_(known).sub_(self.mean).mul_(self.scale)
        result = torch.empty(*values.shape[:-1], self.width, dtype=values.dtype, device=values.device)
        result[..., : len(self.names)] = values.clamp_(-self.limit, self.limit).masked_fill_(unknown, 0.0)
        result[..., len(self.names) :] = unknown
        return result


class PiecewiseNumbers(NumberFitted):
    """Piecewise-linear encoding over bins at the training set's quantiles (Gorishniy et al., 2022).

    Component t of a number is the share of bin t that lies below it: 0 before the bin, 1 after it. A bin of
    no width is unused. ``forward`` returns float32 [rows, names, bins + 1]; the last component says
    that the number is unknown (its others are 0).
    """

    def __init__(self, names: tuple[str, ...], bins: int) -> None:
        super().__init__()
        self.names = names
        self.bins = bins
        self.register_buffer("left", torch.zeros(len(names), bins))
        self.register_buffer("scale", torch.zeros(len(names), bins))
        self.left: Tensor
        self.scale: Tensor

    @property
    def width(self) -> int:
        """How many values one number becomes."""
        return self.bins + 1

    def fit(self, columns: NumberColumns) -> None:
        """Place the bins' edges at quantiles of the known values; equal edges are merged."""
        for position, name in enumerate(self.names):
            edges = quantile_edges(columns[name], self.bins)
            used = len(edges) - 1
            self.left[position].zero_()
            self.scale[position].zero_()
            if used > 0:
                self.left[position, :used] = torch.from_numpy(edges[:-1])
                self.scale[position, :used] = torch.from_numpy(1 / np.diff(edges))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return float32 [rows, names, bins + 1]."""
        raw = torch.stack([features[name] for name in self.names], dim=-1)
        unknown = torch.isnan(raw).unsqueeze(-1)
        value = torch.nan_to_num(raw).unsqueeze(-1)
        parts = ((value - self.left) * self.scale).clamp(0.0, 1.0).masked_fill(unknown, 0.0)
        return torch.cat([parts, unknown.to(parts.dtype)], dim=-1)


def quantile_edges(values: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.float32]:
    """Return at most ``bins + 1`` ascending distinct edges at the known values' quantiles."""
    known = _known(values)
    if not len(known):
        return np.zeros(0, np.float32)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)).astype(np.float32))
    wide_enough = np.concatenate([[True], np.diff(edges) > 1e-30])
    distinct: npt.NDArray[np.float32] = edges[wide_enough]
    return distinct


def _known(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return values[np.isfinite(values)].astype(np.float64)


class NumberEmbedding(nn.Module):
    """Each number as a vector: its piecewise-linear encoding through a linear map of its own.

    ``forward`` returns float32 [rows, names, dimension] ("PLE-L" of Gorishniy et al., 2022). ``spread`` scales
    the initial weights.
    """

    def __init__(self, names: tuple[str, ...], bins: int, dimension: int, spread: float = 1.0) -> None:
        super().__init__()
        self.pieces = PiecewiseNumbers(names, bins)
        bound = spread * self.pieces.width**-0.5
        weight = torch.empty(len(names), self.pieces.width, dimension).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(names), dimension))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return float32 [rows, names, dimension]."""
        pieces = self.pieces(features)
        return torch.einsum("rnb,nbd->rnd", pieces, self.weight) + self.bias
