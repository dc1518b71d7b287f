"""Calibration by a category feature's value, shrunk to the global one as far as the data asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.calibrate import PlattByField, logistic, places_of
from bowerbird.plan.block import Keys
from bowerbird.training.calibration.overall import fit_platt

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
_BINS = 100
"""Rows with the same key and neighbouring logits are counted together, in so many bins of equal weight."""
_SMALLEST_SPREAD = 1e-4
_ROUNDS = 40
_FEWEST_ROWS = 20
"""A key with less weight keeps the shift 0: it would be shrunk there all the same."""


@dataclass(frozen=True)
class GroupedRows:
    """Rows with the same key and neighbouring logits, counted together.

    ``logit`` is a group's mean, ``mass`` its weight and ``positive`` the weight of its positives, scaled so that
    the masses sum to the effective number of samples; ``place`` is its key's place in ``keys``. All are [groups]
    but ``keys``.
    """

    keys: Keys
    place: Places
    logit: Array
    mass: Array
    positive: Array


def group_rows(logit: Array, label: Array, weight: Array, keys: Keys) -> GroupedRows:
    """Return rows grouped by key and by bin of the logit.

    Unequal weights are worth fewer samples than there are rows: (Σw)² / Σw² (Kish, 1965).
    """
    order = np.argsort(logit, kind="stable")
    middle = np.empty(len(logit))
    middle[order] = np.cumsum(weight[order]) - 0.5 * weight[order]
    bins = np.minimum((middle / weight.sum() * _BINS).astype(np.int64), _BINS - 1)
    known = _frequent(keys, weight)
    group, member = np.unique(places_of(known, keys) * _BINS + bins, return_inverse=True)
    scale = weight.sum() / (weight**2).sum()
    mass: Array = np.bincount(member, weight * scale).astype(np.float64)
    kept = mass > 0
    mean = np.bincount(member, weight * scale * logit)[kept] / mass[kept]
    positive: Array = np.bincount(member, weight * scale * label)[kept].astype(np.float64)
    return GroupedRows(known, group[kept] // _BINS, mean, mass[kept], positive)


def fit_platt_by_field(logit: Array, label: Array, weight: Array, keys: Keys, field: str) -> PlattByField:
    """Return one slope and intercept, and a shift for each key of ``field``.

    Shifts are normal around 0 with a variance that is estimated with them (empirical Bayes: expectation-maximisation
    with Laplace's approximation), so that keys with few samples, or keys that do not differ, stay with the global
    calibration. The shift of a key that is too rare, or was not seen, is 0.
    """
    rows = group_rows(logit, label, weight, keys)
    start = fit_platt(rows.logit, rows.positive / rows.mass, rows.mass)
    slope, intercept = start.slope, start.intercept
    shifts: Array = np.zeros(len(rows.keys) + 1)
    spread = 0.25
    for _ in range(_ROUNDS):
        offset = slope * rows.logit + intercept
        shifts, uncertainty = _fit_shifts(rows, offset, shifts, spread)
        slope, intercept = _fit_line(rows, shifts, slope, intercept)
        earlier, spread = spread, _spread(shifts[:-1], uncertainty)
        if abs(spread - earlier) < 1e-3 * earlier:
            break
    return PlattByField(field, slope, intercept, rows.keys.tolist(), shifts[:-1].tolist())


def _frequent(keys: Keys, weight: Array) -> Keys:
    known, member = np.unique(keys, return_inverse=True)
    effective = np.bincount(member, weight) * weight.sum() / (weight**2).sum()
    frequent: Keys = known[effective >= _FEWEST_ROWS]
    return frequent


def _fit_shifts(rows: GroupedRows, offset: Array, shifts: Array, spread: float) -> tuple[Array, Array]:
    """Return each key's most probable shift (0 at the end, for other keys) and their posterior variances."""
    size = len(shifts)
    curvature: Array = np.ones(size)
    for _ in range(20):
        chance = logistic(offset + shifts[rows.place])
        gradient = np.bincount(rows.place, rows.mass * chance - rows.positive, size) + shifts / spread
        curvature = (np.bincount(rows.place, rows.mass * chance * (1 - chance), size) + 1 / spread).astype(np.float64)
        step = np.clip(gradient / curvature, -1.0, 1.0)
        step[-1] = 0.0
        shifts = shifts - step
        if np.abs(step).max() < 1e-7:
            break
    return shifts, 1 / curvature[:-1]


def _fit_line(rows: GroupedRows, shifts: Array, slope: float, intercept: float) -> tuple[float, float]:
    """Return slope and intercept after one step of Newton's method; the slope stays above 0."""
    chance = logistic(slope * rows.logit + intercept + shifts[rows.place])
    residual, curvature = rows.mass * chance - rows.positive, rows.mass * chance * (1 - chance)
    gradient = np.array([residual @ rows.logit, residual.sum()])
    cross = curvature @ rows.logit
    hessian = np.array([[curvature @ rows.logit**2, cross], [cross, curvature.sum()]]) + 1e-9 * np.eye(2)
    step = np.clip(np.linalg.solve(hessian, gradient), -0.5, 0.5)
    moved = slope - float(step[0])
    return (moved if moved > 0 else slope), intercept - float(step[1])


def _spread(shifts: Array, uncertainty: Array) -> float:
    if not len(shifts):
        return _SMALLEST_SPREAD
    return max(float(np.mean(shifts**2 + uncertainty)), _SMALLEST_SPREAD)
