"""How sure a metric is: intervals that resample users, whose samples are not independent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import Keys
from bowerbird.training.quality.metrics import Floats, area

RESAMPLES = 200


class Interval(msgspec.Struct, frozen=True):
    """An estimate and its 95% percentile interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


def auc_interval(labels: Floats, scores: Floats, weight: Floats, user: Keys, seed: int = 0) -> Interval:
    """Return the AUC with a user-clustered interval; samples with a NaN label are left out."""
    values = _resampled_auc(labels, [scores], weight, user, seed)
    return _interval(values[0])


def auc_difference(
    labels: Floats, first: Floats, second: Floats, weight: Floats, user: Keys, seed: int = 0
) -> Interval:
    """Return AUC(first) - AUC(second) on the same samples, with a paired user-clustered interval."""
    values = _resampled_auc(labels, [first, second], weight, user, seed)
    return _interval(values[0] - values[1])


def pcoc_interval(labels: Floats, scores: Floats, weight: Floats, user: Keys, seed: int = 0) -> Interval:
    """Return the mean prediction over the mean label, with a user-clustered interval."""
    mature = ~np.isnan(labels)
    owner, users = _owners(user[mature])
    mass = weight[mature].astype(np.float64)
    predicted = np.bincount(owner, mass * scores[mature], users)
    happened = np.bincount(owner, mass * labels[mature], users)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(np.array([(draw @ predicted) / (draw @ happened) for draw in _draws(users, seed)]))


def _resampled_auc(
    labels: Floats, scores: list[Floats], weight: Floats, user: Keys, seed: int
) -> npt.NDArray[np.float64]:
    """Return AUCs [scores, 1 + resamples]; the first column is of the samples as they are."""
    mature = ~np.isnan(labels)
    owner, users = _owners(user[mature])
    ranked = [_Ranked(labels[mature], score[mature], weight[mature], owner) for score in scores]
    areas = [[one.auc(draw) for one in ranked] for draw in _draws(users, seed)]
    return np.array(areas).T


class _Ranked:
    """Samples sorted by score once, so that each resample is a pass over them."""

    def __init__(self, label: Floats, score: Floats, weight: Floats, owner: npt.NDArray[np.int64]) -> None:
        order = np.argsort(score, kind="stable")
        ordered = score[order]
        self.owner = owner[order]
        self.positive = (weight * label).astype(np.float64)[order]
        self.negative = (weight * (1 - label)).astype(np.float64)[order]
        changed = np.ones(len(order), np.bool_)
        changed[1:] = ordered[1:] != ordered[:-1]
        self.ties = np.flatnonzero(changed)

    def auc(self, draw: npt.NDArray[np.float64]) -> float:
        if not len(self.ties):
            return float("nan")
        times = draw[self.owner]
        positive = np.add.reduceat(times * self.positive, self.ties)
        return area(positive, np.add.reduceat(times * self.negative, self.ties))


def _owners(user: Keys) -> tuple[npt.NDArray[np.int64], int]:
    known, owner = np.unique(user, return_inverse=True)
    return owner, len(known)


def _draws(users: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each user is drawn, float64 [users]: once each, then by resampling."""
    random = np.random.default_rng(seed)
    yield np.ones(users)
    for _ in range(RESAMPLES if users else 0):
        yield np.bincount(random.integers(0, users, users), minlength=users).astype(np.float64)


def _interval(values: npt.NDArray[np.float64]) -> Interval:
    resampled = values[1:][np.isfinite(values[1:])]
    if not len(resampled):
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
