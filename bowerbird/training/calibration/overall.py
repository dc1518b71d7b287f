"""Calibrations of all rows alike: a shift, Platt's slope and intercept, isotonic regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.calibrate import Isotonic, Platt, logistic

Array = npt.NDArray[np.float64]
_GROUPS = 1000
"""Isotonic regression works on at most so many groups of neighbouring scores."""


def fit_shift(logit: Array, label: Array, weight: Array) -> Platt:
    """Return the maximum-likelihood intercept with slope 1: the mean prediction becomes the mean label."""
    intercept = _maximise(np.ones((len(logit), 1)), logit, label, weight)
    return Platt(1.0, float(intercept[0]))


def fit_platt(logit: Array, label: Array, weight: Array) -> Platt:
    """Return the maximum-likelihood slope and intercept; a shift where the scores rank the labels backwards.

    Calibration must not turn a ranking round: that would hide a model that is wrong.
    """
    design = np.stack([logit, np.ones_like(logit)], axis=1)
    slope, intercept = _maximise(design, np.zeros_like(logit), label, weight)
    if slope <= 0.0:
        return fit_shift(logit, label, weight)
    return Platt(float(slope), float(intercept))


def _maximise(design: Array, offset: Array, label: Array, weight: Array) -> Array:
    """Return the logistic regression's coefficients, by Newton's method with step halving."""
    mass = weight / weight.sum()
    coefficients = np.zeros(design.shape[1])
    loss = _loss(design @ coefficients + offset, label, mass)
    for _ in range(50):
        chance = logistic(design @ coefficients + offset)
        gradient = design.T @ (mass * (chance - label))
        curvature = (design * (mass * chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(coefficients)), gradient)
        while np.abs(step).max() > 1e-9 and _loss(design @ (coefficients - step) + offset, label, mass) > loss + 1e-14:
            step = step / 2
        coefficients = coefficients - step
        loss = _loss(design @ coefficients + offset, label, mass)
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


def fit_isotonic(logit: Array, label: Array, weight: Array) -> Isotonic:
    """Return weighted isotonic regression (pool adjacent violators) over groups of neighbouring scores.

    Breakpoints are the pools' mean logits and mean labels, the latter shrunk by half a sample towards the
    overall rate, so that no score becomes certain.
    """
    mean_logit, mean_label, mass, count = _groups(logit, label, weight)
    level, _, pools = pool_adjacent_violators(mean_label, mass)
    place = np.bincount(pools, mean_logit * mass) / np.bincount(pools, mass)
    samples = np.bincount(pools, count)
    rate = float((label * weight).sum() / weight.sum())
    shrunk = (level * samples + 0.5 * rate) / (samples + 0.5)
    return Isotonic(place.tolist(), np.maximum.accumulate(shrunk).tolist())


def pool_adjacent_violators(values: Array, weight: Array) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Return each pool's level and weight, and the pool of each value (Ayer et al., 1955)."""
    levels: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, mass in zip(values.tolist(), weight.tolist(), strict=True):
        levels.append(value)
        masses.append(mass)
        lengths.append(1)
        while len(levels) > 1 and levels[-2] >= levels[-1]:
            level, joined, length = levels.pop(), masses.pop(), lengths.pop()
            total = masses[-1] + joined
            levels[-1] = (levels[-1] * masses[-1] + level * joined) / total
            masses[-1] = total
            lengths[-1] += length
    return np.array(levels), np.array(masses), np.repeat(np.arange(len(levels)), lengths)


def _groups(logit: Array, label: Array, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Return mean logit, mean label, weight and count of groups of neighbours; equal logits share one."""
    kept = weight > 0
    distinct, tie = np.unique(logit[kept], return_inverse=True)
    mass = np.bincount(tie, weight[kept])
    place = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
    group = np.unique((place * _GROUPS).astype(np.int64), return_inverse=True)[1]
    total = np.bincount(group, mass)
    positive = np.bincount(group, np.bincount(tie, (weight * label)[kept]))
    samples = np.bincount(group[tie]).astype(np.float64)
    return np.bincount(group, distinct * mass) / total, positive / total, total.astype(np.float64), samples


def _loss(logit: Array, label: Array, mass: Array) -> float:
    return float((mass * (np.logaddexp(0.0, logit) - label * logit)).sum())
