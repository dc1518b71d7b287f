"""Where a model is worst: slices of held-out samples that are ranked or calibrated worse than all, beyond chance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import Keys, Numbers
from bowerbird.training.quality.bootstrap import Interval
from bowerbird.training.quality.influence import (
    Estimate,
    Influence,
    Owners,
    auc_influence,
    clustered,
    from_sums,
    log_loss_influence,
    log_pcoc_influence,
)
from bowerbird.training.quality.metrics import Floats

USER_ACTIVITY = "(user's samples)"
USER_POSITION = "(nth of the user)"
_MOST_VALUES = 25
"""Of a category feature so many values are looked at, the most frequent ones."""
_BUCKETS = 5
_FEWEST_ROWS = 100
_FEWEST_USERS = 30
_FEWEST_OF_A_CLASS = 20
_LEVEL = 0.05
"""How probable it may be that anything at all is listed by chance."""
_COUNTS = (1, 2, 6, 21, 101)

Array = npt.NDArray[np.float64]
Column = npt.NDArray[np.str_]


class Slice(msgspec.Struct, frozen=True):
    """Some samples of a task and its metrics there, with user-clustered 95% intervals.

    ``promised_auc`` is what the scores would have if they were the truth. ``worse`` says what is worse than over all
    samples: ``auc`` (further below what is promised) or ``pcoc`` (further from 1). ``gap`` is by how much: of AUC, or
    of the logarithm of PCOC. ``chance`` is how probable a gap like that is where there is none,
    corrected for everything that was looked at. ``harm`` is the gap times the slice's share of the samples.
    """

    feature: str
    value: str
    rows: int
    users: int
    auc: Interval
    promised_auc: float
    log_loss: Interval
    pcoc: Interval
    worse: str
    gap: float
    chance: float
    harm: float


class SliceReport(msgspec.Struct, frozen=True):
    """A task's worst slices, the most harmful of a kind first; ``examined`` slices were looked at."""

    examined: int
    worst: list[Slice]


def worst_slices(
    labels: Floats, scores: Floats, weight: Floats, user: Keys, columns: Mapping[str, Column]
) -> SliceReport:
    """Return the slices in which calibrated ``scores`` are worse than over all samples, beyond chance.

    ``columns`` hold a slice's name for each sample, str [rows], by feature; an empty name is in no slice. Each slice
    that is large enough is tested twice: how far AUC is below what the scores promise, against that of all samples
    (one-sided), and PCOC likewise (two-sided). AUC itself would not do: within a fifth of a number that predicts
    well, any model has a lower one.
    Errors are clustered by user and Holm's (1979) correction keeps the chance that anything is listed where nothing is
    wrong at 5%. Samples with a NaN label are left out.
    """
    mature = ~np.isnan(labels)
    judge = _Judge(labels[mature], scores[mature], weight[mature], user[mature])
    if not judge.both_classes:
        return SliceReport(0, [])
    tested: list[Slice] = []
    examined = 0
    for feature, column in columns.items():
        for value, inside in _slices_of(column[mature]):
            if judge.is_enough(inside):
                examined += 1
                tested += judge.test(feature, value, inside)
    worst = [one for one in _corrected(tested) if one.chance <= _LEVEL and one.gap > 0]
    return SliceReport(examined, sorted(worst, key=lambda one: (one.worse, -one.harm)))


def category_column(keys: Keys) -> Column:
    """Return the hexadecimal name of each key that is among the 25 most frequent, and nothing for others."""
    known, place, count = np.unique(keys, return_inverse=True, return_counts=True)
    names = np.array([f"{int(key):016x}" for key in known])
    names[np.argsort(-count, kind="stable")[_MOST_VALUES:]] = ""
    return names[place]


def number_column(values: Numbers) -> Column:
    """Return the quantile bucket of each value as its bounds, or ``unknown``; equal values share a bucket."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(values), "unknown")
    inner = np.unique(np.quantile(values[known], np.arange(1, _BUCKETS) / _BUCKETS))
    place = np.searchsorted(inner, values, side="left")
    names = [f"≤ {inner[0]:.6g}", *(f"> {low:.6g}" for low in inner)]
    for bucket in range(1, len(inner)):
        names[bucket] = f"> {inner[bucket - 1]:.6g} and ≤ {inner[bucket]:.6g}"
    return np.where(known, np.array(names)[np.where(known, place, 0)], "unknown")


def activity_columns(user: Keys, time: npt.NDArray[np.int64]) -> dict[str, Column]:
    """Return how many of the samples are the user's, and which of them each is in time, in buckets."""
    owner, count = np.unique(user, return_inverse=True, return_counts=True)[1:]
    order = np.lexsort((time, owner))
    nth = np.empty(len(user), np.int64)
    nth[order] = np.arange(len(user)) - (np.cumsum(count) - count)[owner[order]] + 1
    return {USER_ACTIVITY: _count_buckets(count[owner]), USER_POSITION: _count_buckets(nth)}


def _count_buckets(count: npt.NDArray[np.int64]) -> Column:
    names = [
        *(f"{low}" if low == high - 1 else f"{low} to {high - 1}" for low, high in itertools.pairwise(_COUNTS)),
        f"{_COUNTS[-1]} or more",
    ]
    return np.array(names)[np.searchsorted(np.array(_COUNTS), count, side="right") - 1]


def _slices_of(column: Column) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    values, place = np.unique(column, return_inverse=True)
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=len(values)))
    for value, inside in zip(values.tolist(), np.split(order, ends[:-1]), strict=True):
        if value:
            yield value, inside


class _Judge:
    """Mature samples of a task and the influences of its metrics over all of them, summed by user."""

    def __init__(self, label: Floats, score: Floats, weight: Floats, user: Keys) -> None:
        self.label, self.score, self.weight = (values.astype(np.float64) for values in (label, score, weight))
        self.owner = np.unique(user, return_inverse=True)[1]
        columns = (self.label, self.score, self.weight)
        auc = auc_influence(*columns)
        self.both_classes = bool(np.isfinite(auc.value))
        self.lost, self.log_pcoc = promised_auc(*columns[1:]) - auc, log_pcoc_influence(*columns)
        self.sums: list[Array] = [
            np.bincount(self.owner, one.influence).astype(np.float64) for one in (self.lost, self.log_pcoc)
        ]

    def is_enough(self, inside: npt.NDArray[np.int64]) -> bool:
        """Say whether a slice is large enough, and not everything."""
        positives = int(self.label[inside].sum())
        return (
            _FEWEST_ROWS <= len(inside) < len(self.label)
            and min(positives, len(inside) - positives) >= _FEWEST_OF_A_CLASS
            and len(np.unique(self.owner[inside])) >= _FEWEST_USERS
        )

    def test(self, feature: str, value: str, inside: npt.NDArray[np.int64]) -> Iterator[Slice]:
        """Yield the slice twice: for its AUC and for its PCOC, each with an uncorrected ``chance``."""
        columns = (self.label[inside], self.score[inside], self.weight[inside])
        users, owner = np.unique(self.owner[inside], return_inverse=True)
        auc, loss, pcoc = auc_influence(*columns), log_loss_influence(*columns), log_pcoc_influence(*columns)
        promised = promised_auc(*columns[1:])
        more_lost = self._beyond_all(promised - auc, self.lost, self.sums[0], users, owner)
        other = self._beyond_all(pcoc, self.log_pcoc, self.sums[1], users, owner)
        further = abs(pcoc.value) - abs(self.log_pcoc.value)
        share = float(columns[2].sum() / self.weight.sum())
        for worse, gap, chance in (
            ("auc", more_lost.value, 1 - more_lost.chance()),
            ("pcoc", further, 2 * min(other.chance(), 1 - other.chance())),
        ):
            yield Slice(
                feature=feature,
                value=value,
                rows=len(inside),
                users=len(users),
                auc=clustered(auc, owner).interval(),
                promised_auc=promised.value,
                log_loss=clustered(loss, owner).interval(),
                pcoc=_exponential(clustered(pcoc, owner).interval()),
                worse=worse,
                gap=gap,
                chance=chance,
                harm=gap * share,
            )

    def _beyond_all(
        self, inside: Influence, everything: Influence, sums: Array, users: npt.NDArray[np.int64], owner: Owners
    ) -> Estimate:
        """Return a slice's metric less that of all samples, whose users are the same people."""
        difference = -sums
        difference[users] += np.bincount(owner, inside.influence)
        return from_sums(inside.value - everything.value, difference)


def promised_auc(score: Floats, weight: Floats) -> Influence:
    """Return the AUC that scores would have if they were the labels' true probabilities.

    Where scores lie close together it is low whoever made them: an AUC is bad where it falls short of it.
    """
    return auc_influence(score, score, weight)


def _exponential(interval: Interval) -> Interval:
    return Interval(*(float(np.exp(value)) for value in (interval.estimate, interval.low, interval.high)))


def _corrected(tested: list[Slice]) -> list[Slice]:
    """Return the slices with Holm's correction of their chances, the least probable first."""
    ordered = sorted(tested, key=lambda one: one.chance)
    corrected, highest = [], 0.0
    for place, one in enumerate(ordered):
        highest = min(max(highest, one.chance * (len(ordered) - place)), 1.0)
        corrected.append(msgspec.structs.replace(one, chance=highest))
    return corrected
