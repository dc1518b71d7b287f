"""A small monotone network as calibration: a rising curve of hinges, and an embedding of a field beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.bundles.calibrate import Monotone
from bowerbird.plan.block import Keys
from bowerbird.training.calibration.by_field import GroupedRows, group_rows

Array = npt.NDArray[np.float64]
_KNOTS = 16
_ROUGHNESS = 0.5
"""Standard deviation (in log slope) of the change of slope from one piece of the curve to the next."""
_SPREADS = (0.05, 0.25)
"""Variances at the start: of the keys' log scales and of their shifts."""
_SMALLEST_SPREAD = 1e-4
_ROUNDS = 4


def fit_monotone(logit: Array, label: Array, weight: Array, keys: Keys | None = None, field: str = "") -> Monotone:
    """Return the most probable monotone network σ(e^t[key] · g(logit) + b[key]).

    g rises through at most 16 knots at quantiles of the logit; its slopes are exponentials of parameters that walk
    from piece to piece with normal steps, so it can neither fall nor jump about. t and b are normal around 0 with
    variances estimated from the data (empirical Bayes), and 0 without a field. That the map rises for every key,
    whatever the parameters, is Neural Calibration's requirement (Pan et al., 2020), met here by construction;
    parameters and priors are ours. L-BFGS in float64 over rows grouped by key and bin of the logit.
    """
    rows = group_rows(logit, label, weight, np.zeros(len(logit), np.uint64) if keys is None else keys)
    knots = _knots(rows)
    network = _Network(rows, knots, with_field=keys is not None)
    for _ in range(_ROUNDS if network.with_field else 1):
        network.fit()
        network.update_spreads()
    return network.calibration(field)


def _knots(rows: GroupedRows) -> Array:
    order = np.argsort(rows.logit, kind="stable")
    place = np.cumsum(rows.mass[order]) / rows.mass.sum()
    wanted = np.linspace(0.0, 1.0, _KNOTS)
    chosen = np.unique(rows.logit[order][np.minimum(np.searchsorted(place, wanted), len(place) - 1)])
    kept = [float(chosen[0])]
    for value in chosen[1:].tolist():
        if value > kept[-1] + 1e-6:
            kept.append(value)
    return np.array(kept if len(kept) > 1 else [kept[0] - 0.5, kept[0] + 0.5])


class _Network:
    """Parameters, the penalised loss over grouped rows, and the spreads that penalise the field's effects."""

    def __init__(self, rows: GroupedRows, knots: Array, with_field: bool) -> None:
        self.rows = rows
        self.knots = knots
        self.with_field = with_field and len(rows.keys) > 0
        self.spreads = list(_SPREADS)
        count = len(rows.keys) + 1 if self.with_field else 1
        self._logit, self._mass, self._positive = map(torch.from_numpy, (rows.logit, rows.mass, rows.positive))
        place = rows.place if self.with_field else np.zeros_like(rows.place)
        self._place = torch.from_numpy(place)
        self._hinges = _hinges(rows.logit, knots)
        self.start = torch.tensor([knots[0]], dtype=torch.float64, requires_grad=True)
        self.slopes = torch.zeros(len(knots) - 1, dtype=torch.float64, requires_grad=True)
        self.scales = torch.zeros(count, dtype=torch.float64, requires_grad=self.with_field)
        self.shifts = torch.zeros(count, dtype=torch.float64, requires_grad=self.with_field)

    def fit(self) -> None:
        """Minimise the penalised loss from where the parameters are."""
        parameters = [value for value in (self.start, self.slopes, self.scales, self.shifts) if value.requires_grad]
        optimiser = torch.optim.LBFGS(
            parameters, max_iter=100, history_size=20, tolerance_change=1e-10, line_search_fn="strong_wolfe"
        )
        closure: Callable[[], Tensor] = lambda: self._backward(optimiser)  # noqa: E731
        optimiser.step(closure)  # type: ignore[no-untyped-call]

    def _backward(self, optimiser: torch.optim.Optimizer) -> Tensor:
        optimiser.zero_grad()
        loss = self._loss()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _logits(self) -> tuple[Tensor, Tensor]:
        curve = self.start + self._hinges @ torch.exp(self.slopes)
        return torch.exp(self.scales)[self._place] * curve, self.shifts[self._place]

    def _loss(self) -> Tensor:
        scaled, shift = self._logits()
        logit = scaled + shift
        loss = (self._mass * functional.softplus(logit) - self._positive * logit).sum()
        loss = loss + 0.5 * (torch.diff(self.slopes) ** 2).sum() / _ROUGHNESS**2
        for values, spread in zip((self.scales, self.shifts), self.spreads, strict=True):
            loss = loss + 0.5 * (values**2).sum() / spread
        return loss / self._mass.sum()

    def update_spreads(self) -> None:
        """Set the effects' variances to their expected squares (Laplace's approximation, one key at a time)."""
        if not self.with_field:
            return
        with torch.no_grad():
            scaled, shift = self._logits()
            chance = torch.sigmoid(scaled + shift)
            curvature = self._mass * chance * (1 - chance)
            count = len(self.shifts)
            for which, (values, derivative) in enumerate(
                ((self.scales, scaled), (self.shifts, torch.ones_like(scaled)))
            ):
                information = torch.zeros(count, dtype=torch.float64)
                information.index_add_(0, self._place, curvature * derivative**2)
                uncertainty = 1 / (information[:-1] + 1 / self.spreads[which])
                expected = float((values[:-1] ** 2 + uncertainty).mean())
                self.spreads[which] = max(expected, _SMALLEST_SPREAD)

    def calibration(self, field: str) -> Monotone:
        """Return the network as plain data; effects of other keys than the known are 1 and 0."""
        slopes = torch.exp(self.slopes.detach()).numpy()
        heights = float(self.start.detach()) + np.concatenate([[0.0], np.cumsum(slopes * np.diff(self.knots))])
        rising = np.maximum(heights, heights[0] + np.arange(len(heights)) * 1e-9)
        plain = Monotone(self.knots.tolist(), rising.tolist())
        if not self.with_field:
            return plain
        scales = torch.exp(self.scales.detach()).numpy()[:-1]
        shifts = self.shifts.detach().numpy()[:-1]
        return Monotone(plain.knots, plain.values, field, self.rows.keys.tolist(), scales.tolist(), shifts.tolist())


def _hinges(logit: Array, knots: Array) -> Tensor:
    """Return how far each logit goes along each piece, [rows, pieces]; the end pieces go on without end."""
    along = logit[:, None] - knots[None, :-1]
    width = np.diff(knots)
    upper = np.append(width[:-1], np.inf)
    lower = np.zeros(len(width))
    lower[0] = -np.inf
    return torch.from_numpy(np.clip(along, lower, upper))
