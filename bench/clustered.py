"""Intervals of metrics that are a sum over users divided by another, such as GAUC and log loss: users are resampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.training.quality.bootstrap import RESAMPLES, Interval
from bowerbird.training.quality.metrics import auc, likelihood_losses

Array = npt.NDArray[Any]


def gauc_interval(label: Array, score: Array, weight: Array, user: Array) -> Interval:
    """Return GAUC (users' AUCs weighted by their samples) with a 95% interval; NaN labels are left out."""
    _, owners = np.unique(user, return_inverse=True)
    areas, masses = [], []
    for rows in np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1]):
        known = rows[~np.isnan(label[rows])]
        area = auc(label[known], score[known], weight[known].astype(np.float64))
        mass = 0.0 if np.isnan(area) else float(weight[known].sum())
        areas.append(mass * np.nan_to_num(area))
        masses.append(mass)
    return ratio_interval(np.array(areas), np.array(masses))


def log_loss_interval(label: Array, score: Array, weight: Array, user: Array) -> Interval:
    """Return the mean of -log p(label), in nats, with a 95% interval; NaN labels are left out."""
    known = ~np.isnan(label)
    _, owner = np.unique(user[known], return_inverse=True)
    mass = weight[known].astype(np.float64)
    losses = np.bincount(owner, mass * likelihood_losses(label[known].astype(np.float64), score[known]))
    return ratio_interval(losses, np.bincount(owner, mass))


def ratio_interval(above: Array, below: Array, seed: int = 0) -> Interval:
    """Return Σ above / Σ below with a 95% interval that resamples the entries, one for each user."""
    random = np.random.default_rng(seed)
    draws = [random.integers(0, len(above), len(above)) for _ in range(RESAMPLES)]
    low, high = np.quantile([above[draw].sum() / below[draw].sum() for draw in draws], [0.025, 0.975])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))
