"""AUC of a stream of predictions in constant memory, with a bound on its error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.training.quality.metrics import Floats, area

_REACH = 20.0


class StreamingAuc:
    """Counts weights of positives and negatives in bins of the logit, from -20 to 20 in equal steps.

    Two scores in one bin count as tied, so that the value is off by at most half the weight of pairs that share a
    bin, over that of all pairs: ``error`` is that bound, of what was counted, and not an expectation (the error
    itself is far smaller, as scores within a bin hardly tell the classes apart). With the 65,536 bins that are the
    default (1 MiB), it is about 1e-4 for logits that vary by 1.
    """

    def __init__(self, bins: int = 1 << 16) -> None:
        self.bins = bins
        self._positive = np.zeros(bins)
        self._negative = np.zeros(bins)

    def add(self, label: Floats, logit: Floats, weight: Floats | None = None) -> None:
        """Count samples: labels 1, 0, or NaN for those that take no part, logits and weights, all [rows].

        Raises InputError for a logit that is NaN.
        """
        mature = ~np.isnan(label)
        values = logit[mature].astype(np.float64)
        if np.isnan(values).any():
            raise InputError(
                "A prediction is NaN, which has no rank.", "Lower the learning rate, or repair the features."
            )
        place = self._bins_of(values)
        mass = np.ones(len(values)) if weight is None else weight[mature].astype(np.float64)
        happened = label[mature].astype(np.float64)
        self._positive += np.bincount(place, mass * happened, self.bins)
        self._negative += np.bincount(place, mass * (1 - happened), self.bins)

    def merge(self, other: StreamingAuc) -> None:
        """Count what another one has counted, of another shard say; raises InputError for other bins."""
        if other.bins != self.bins:
            raise InputError(
                f"{other.bins} bins cannot be merged into {self.bins}.", "Build both with the same number."
            )
        self._positive += other._positive
        self._negative += other._negative

    @property
    def value(self) -> float:
        """The AUC; NaN before both classes were seen."""
        return area(self._positive, self._negative)

    @property
    def error(self) -> float:
        """How far ``value`` can be from the exact AUC; NaN before both classes were seen."""
        pairs = self._positive.sum() * self._negative.sum()
        return float(0.5 * (self._positive * self._negative).sum() / pairs) if pairs > 0 else float("nan")

    def _bins_of(self, logit: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        place = np.clip((logit + _REACH) * (self.bins / (2 * _REACH)), 0, self.bins - 1)
        return place.astype(np.int64)
