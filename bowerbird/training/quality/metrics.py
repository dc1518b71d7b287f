"""What a model is judged by: ranking, log loss and calibration, all weighted."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import Keys

Floats = npt.NDArray[np.floating]
_SMALLEST = 1e-12


class Metrics(msgspec.Struct, frozen=True):
    """Metrics of one task over some mature samples; NaN where undefined (one class only, say).

    ``auc``; ``gauc`` (AUC within users, weighted by their samples); ``log_loss`` in nats; ``ne`` (log loss
    over that of the mean label: He et al., 2014); ``pcoc`` (mean prediction over mean label); ``ece``
    (expected calibration error over 20 bins of equal weight).
    """

    rows: int
    positives: int
    auc: float
    gauc: float
    log_loss: float
    ne: float
    pcoc: float
    ece: float


def measure(labels: Floats, scores: Floats, weight: Floats, user: Keys) -> Metrics:
    """Return the metrics of probabilities ``scores``; samples with a NaN label are left out."""
    mature = ~np.isnan(labels)
    label = labels[mature].astype(np.float64)
    score = scores[mature].astype(np.float64)
    mass = weight[mature].astype(np.float64)
    return Metrics(
        rows=len(label),
        positives=int(label.sum()),
        auc=auc(label, score, mass),
        gauc=gauc(label, score, mass, user[mature]),
        log_loss=log_loss(label, score, mass),
        ne=normalised_entropy(label, score, mass),
        pcoc=pcoc(label, score, mass),
        ece=calibration_error(label, score, mass),
    )


def auc(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the weighted area under the ROC curve; ties count a half. NaN with one class only."""
    order = np.argsort(score, kind="stable")
    group = _group_starts(score[order])
    positive = np.add.reduceat(weight[order] * label[order], group) if len(group) else np.zeros(0)
    negative = np.add.reduceat(weight[order] * (1 - label[order]), group) if len(group) else np.zeros(0)
    return area(positive, negative)


def area(positive: npt.NDArray[np.float64], negative: npt.NDArray[np.float64]) -> float:
    """Return the AUC of groups of equal scores, ascending, given each one's positive and negative weight."""
    total = positive.sum() * negative.sum()
    if not total > 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / total)


def gauc(label: Floats, score: Floats, weight: Floats, user: Keys) -> float:
    """Return the mean of users' AUCs, weighted by their samples' weight, over users with both classes.

    (Zhu et al., 2017.) NaN when no user has both.
    """
    if not len(label):
        return float("nan")
    order = np.lexsort((score, user))
    ordered_user, ordered_score = user[order], score[order]
    ties = np.flatnonzero(_changes(ordered_user) | _changes(ordered_score))
    positive = np.add.reduceat(weight[order] * label[order], ties)
    negative = np.add.reduceat(weight[order] * (1 - label[order]), ties)
    owner = np.cumsum(_changes(ordered_user))[ties] - 1
    per_user_positive = np.bincount(owner, positive)
    per_user_negative = np.bincount(owner, negative)
    start = np.concatenate([[0.0], np.cumsum(per_user_negative)[:-1]])
    below = np.cumsum(negative) - negative - start[owner]
    pairs = np.bincount(owner, positive * (below + 0.5 * negative))
    possible = per_user_positive * per_user_negative
    both = possible > 0
    if not both.any():
        return float("nan")
    mass = (per_user_positive + per_user_negative)[both]
    return float((pairs[both] / possible[both] * mass).sum() / mass.sum())


def log_loss(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the weighted mean of -log p(label), in nats; NaN without samples."""
    if not weight.sum() > 0:
        return float("nan")
    return float((weight * likelihood_losses(label, score)).sum() / weight.sum())


def likelihood_losses(label: Floats, score: Floats) -> npt.NDArray[np.float64]:
    """Return -log p(label) of each sample, in nats, float64 [rows]; probabilities are kept 1e-12 from 0 and 1."""
    likely = np.clip(score.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    losses: npt.NDArray[np.float64] = -(label * np.log(likely) + (1 - label) * np.log1p(-likely))
    return losses


def normalised_entropy(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the log loss over that of always predicting the mean label; NaN with one class only."""
    if not weight.sum() > 0:
        return float("nan")
    rate = (weight * label).sum() / weight.sum()
    if not 0 < rate < 1:
        return float("nan")
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return float(log_loss(label, score, weight) / entropy)


def pcoc(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the mean prediction over the mean label; NaN without positives."""
    happened = (weight * label).sum()
    return float((weight * score).sum() / happened) if happened > 0 else float("nan")


def calibration_error(label: Floats, score: Floats, weight: Floats, bins: int = 20) -> float:
    """Return the weighted mean of |mean prediction - mean label| over bins of equal weight by score.

    Equal scores always share a bin. (ECE with adaptive bins: Nguyen and O'Connor, 2015.)
    """
    total = weight.sum()
    if not total > 0:
        return float("nan")
    order = np.argsort(score, kind="stable")
    group = _group_starts(score[order])
    mass = np.add.reduceat(weight[order], group)
    middle = np.cumsum(mass) - 0.5 * mass
    place = np.minimum((middle / total * bins).astype(np.int64), bins - 1)
    gap = np.add.reduceat((weight * (score - label))[order], group)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / total)


def field_calibration_error(label: Floats, score: Floats, weight: Floats, field: npt.NDArray[np.generic]) -> float:
    """Return the weighted mean over a field's values of |mean prediction - mean label| (field-ECE: Pan et al., 2020).

    NaN without samples. A model that is right in the mean and wrong by advertiser or by city shows here; values
    with few samples add noise, so compare models on the same samples only.
    """
    total = weight.sum()
    if not total > 0:
        return float("nan")
    place = np.unique(field, return_inverse=True)[1]
    return float(np.abs(np.bincount(place, weight * (score - label))).sum() / total)


def _changes(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    changed = np.ones(len(values), np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _group_starts(ordered: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(_changes(ordered))
