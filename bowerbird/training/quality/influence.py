"""How far each sample moves a metric, and from that the metric's error when samples of a user go together.

A metric that is smooth in the samples' weights differs from its expectation by the sum of its influences (Hampel,
1974), to first order; for AUC these are placements (DeLong et al., 1988). Summed by user and squared they give an
error in one pass, where resampling users needs hundreds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.training.quality.bootstrap import Interval
from bowerbird.training.quality.metrics import Floats, likelihood_losses

Array = npt.NDArray[np.float64]
Owners = npt.NDArray[np.int64]
_NORMAL = 1.959963984540054


@dataclass(frozen=True)
class Influence:
    """A metric's value and each sample's influence on it, float64 [rows], which sum to 0."""

    value: float
    influence: Array

    def __sub__(self, other: Influence) -> Influence:
        """Return the difference of two metrics of the same samples."""
        return Influence(self.value - other.value, self.influence - other.influence)


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and the degrees of freedom of that error."""

    value: float
    error: float
    freedom: float

    def interval(self) -> Interval:
        """Return the value with its 95% interval."""
        reach = _student(_NORMAL, self.freedom) * self.error
        return Interval(self.value, self.value - reach, self.value + reach)

    def chance(self) -> float:
        """Return how probable it is, were the truth 0, that the value lies as low as this or lower."""
        if not self.error > 0:
            return 0.5 if self.value == 0 else float(self.value > 0)
        return 0.5 * math.erfc(-_normal(self.value / self.error, self.freedom) / math.sqrt(2))


def clustered(influence: Influence, owner: Owners, extra_variance: float = 0.0) -> Estimate:
    """Return the estimate with samples of one ``owner`` (int64 [rows]: 0, 1, …) counted as one draw.

    Degrees of freedom are Satterthwaite's (1946): few, where a few users make most of the error. ``extra_variance`` is
    added to the error's square.
    """
    sums: Array = np.bincount(owner, influence.influence).astype(np.float64)
    return from_sums(influence.value, sums, extra_variance)


def from_sums(value: float, sums: Array, extra_variance: float = 0.0) -> Estimate:
    """Return the estimate of a metric whose influences have been summed by owner, float64 [owners]."""
    squares = sums[sums != 0] ** 2
    total = float(squares.sum())
    if not total > 0:
        return Estimate(value, math.sqrt(extra_variance), 1.0)
    count = len(squares)
    variance = total * (count / (count - 1) if count > 1 else 1.0)
    freedom = max(total**2 / float((squares**2).sum()) - 1, 1.0)
    return Estimate(value, math.sqrt(variance + extra_variance), freedom)


def auc_influence(label: Floats, score: Floats, weight: Floats) -> Influence:
    """Return the weighted AUC; ties count a half. NaN and no influence with one class only."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    changed = np.ones(len(ordered), np.bool_)
    changed[1:] = ordered[1:] != ordered[:-1]
    tie = np.cumsum(changed) - 1
    ones = (weight * label)[order]
    zeros = (weight * (1 - label))[order]
    positive, negative = np.bincount(tie, ones), np.bincount(tie, zeros)
    mass = positive.sum(), negative.sum()
    if not mass[0] * mass[1] > 0:
        return Influence(float("nan"), np.zeros(len(label)))
    below = ((np.cumsum(negative) - 0.5 * negative) / mass[1])[tie]
    above = (1 - (np.cumsum(positive) - 0.5 * positive) / mass[0])[tie]
    value = float((ones * below).sum() / mass[0])
    influence = np.empty(len(label))
    influence[order] = ones / mass[0] * (below - value) + zeros / mass[1] * (above - value)
    return Influence(value, influence)


def log_loss_influence(label: Floats, score: Floats, weight: Floats) -> Influence:
    """Return the weighted mean log loss, in nats; NaN without samples."""
    total = weight.sum()
    if not total > 0:
        return Influence(float("nan"), np.zeros(len(label)))
    losses = likelihood_losses(label, score)
    value = float((weight * losses).sum() / total)
    return Influence(value, (weight * (losses - value) / total).astype(np.float64))


def log_pcoc_influence(label: Floats, score: Floats, weight: Floats) -> Influence:
    """Return the logarithm of mean prediction over mean label; NaN without positives."""
    predicted, happened = (weight * score).sum(), (weight * label).sum()
    if not (predicted > 0 and happened > 0):
        return Influence(float("nan"), np.zeros(len(label)))
    influence = weight * score / predicted - weight * label / happened
    return Influence(float(np.log(predicted / happened)), influence.astype(np.float64))


def _normal(student: float, freedom: float) -> float:
    """Return the normal deviate of the same tail as Student's (Wallace, 1959), right to about 1%."""
    size = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(student**2 / freedom))
    return math.copysign(size, student)


def _student(normal: float, freedom: float) -> float:
    """Return the inverse of ``_normal``."""
    size = (normal * (8 * freedom + 3) / (8 * freedom + 1)) ** 2 / freedom
    return math.sqrt(freedom * math.expm1(size))
