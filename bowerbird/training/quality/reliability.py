"""How often what is predicted happens: mean label against mean prediction, in bins of the prediction."""

from __future__ import annotations

import msgspec
import numpy as np

from bowerbird.plan.block import Keys
from bowerbird.training.quality.influence import Influence, clustered
from bowerbird.training.quality.metrics import Floats

_BINS = 15


class ReliabilityBin(msgspec.Struct, frozen=True):
    """Samples with neighbouring predictions: mean prediction, and mean label with its user-clustered 95% interval."""

    rows: int
    predicted: float
    happened: float
    low: float
    high: float


def reliability(labels: Floats, scores: Floats, weight: Floats, user: Keys, bins: int = _BINS) -> list[ReliabilityBin]:
    """Return bins of equal weight, ascending by prediction; equal predictions share one.

    Samples with a NaN label are left out; the list is empty without others. Intervals are kept within 0 and 1.
    """
    mature = ~np.isnan(labels) & (weight > 0)
    label, score, mass = (column[mature].astype(np.float64) for column in (labels, scores, weight))
    if not len(label):
        return []
    owner = np.unique(user[mature], return_inverse=True)[1]
    tie = np.unique(score, return_inverse=True)[1]
    by_score = np.bincount(tie, mass)
    middle = (np.cumsum(by_score) - 0.5 * by_score) / by_score.sum()
    place = np.minimum((middle * bins).astype(np.int64), bins - 1)[tie]
    return [_bin(label[inside], score[inside], mass[inside], owner[inside]) for inside in _members(place)]


def _members(place: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(place == value) for value in np.unique(place)]


def _bin(label: np.ndarray, score: np.ndarray, mass: np.ndarray, owner: np.ndarray) -> ReliabilityBin:
    share = mass / mass.sum()
    happened = float(share @ label)
    interval = clustered(Influence(happened, share * (label - happened)), owner).interval()
    return ReliabilityBin(len(label), float(share @ score), happened, max(interval.low, 0.0), min(interval.high, 1.0))
