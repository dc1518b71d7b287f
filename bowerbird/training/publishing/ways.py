"""Every way of serving a model, compared with eager PyTorch on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.way_results import Change, Scores, WayTask, kendall
from bowerbird.plan.block import Keys
from bowerbird.training.quality.bootstrap import Interval, auc_difference, pcoc_interval
from bowerbird.training.quality.metrics import Floats

_MOST_SHIFT = 0.5
_HALVINGS = 24


@dataclass(frozen=True)
class Samples:
    """Held-out samples of one task: labels (NaN where not known), weights and users."""

    labels: Floats
    weight: npt.NDArray[np.float64]
    user: Keys

    def chosen(self, rows: npt.NDArray[np.bool_]) -> Samples:
        """Return some of the samples."""
        return Samples(self.labels[rows], self.weight[rows], self.user[rows])


def compare_scores(task: str, eager: Scores, served: Scores, samples: Samples) -> WayTask:
    """Return how a way's scores differ from eager PyTorch's."""
    auc = auc_difference(samples.labels, served, eager, samples.weight, samples.user)
    mean = pcoc_interval(eager, served, samples.weight, samples.user)
    return WayTask(
        task=task,
        auc=_change(auc),
        calibration=_change(Interval(mean.estimate - 1.0, mean.low - 1.0, mean.high - 1.0)),
        kendall=kendall(eager, served),
        largest=float(np.abs(eager - served).max(initial=0.0)),
        positives=int((samples.labels == 1).sum()),
        negatives=int((samples.labels == 0).sum()),
    )


def fitted_shift(eager: Scores, served: Callable[[float], Scores], weight: npt.NDArray[np.float64]) -> float:
    """Return what is to be added to a way's logits so that its mean score is that of eager PyTorch, within ±1/2.

    ``served(shift)`` are the way's scores of the same samples, which rise with the shift. 0 where there are none.
    """
    if not weight.sum() > 0:
        return 0.0
    mean = np.average(eager, weights=weight)
    low, high = -_MOST_SHIFT, _MOST_SHIFT
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.average(served(middle), weights=weight) < mean else (low, middle)
    return 0.5 * (low + high)


def _change(interval: Interval) -> Change:
    values = (interval.estimate, interval.low, interval.high)
    return Change(*(float(value) if math.isfinite(value) else None for value in values))
