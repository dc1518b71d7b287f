"""Coverage: how often each served feature had a value."""

from __future__ import annotations

import msgspec
import numpy as np

from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import MISSING_KEY


class FeatureCoverage(msgspec.Struct, frozen=True):
    """Share of values that were present (a sequence: not empty; a vector: known), and the mean of a number's values."""

    feature: str
    values: int
    present: float
    mean: float | None


class CoverageCounter:
    """Adds up blocks of served features."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._present: dict[str, int] = {}
        self._sums: dict[str, float] = {}

    def add(self, block: FeatureBlock) -> None:
        """Count one answer's features."""
        for name, keys in block.categories.items():
            self._count(name, len(keys), int((keys != MISSING_KEY).sum()))
        for name, numbers in block.numbers.items():
            known = ~np.isnan(numbers)
            self._count(name, len(numbers), int(known.sum()))
            self._sums[name] = self._sums.get(name, 0.0) + float(numbers[known].sum(dtype=np.float64))
        for name, vectors in block.vectors.items():
            self._count(name, len(vectors), int((~np.isnan(vectors).any(axis=1)).sum()))
        for name, ragged in block.sequences.items():
            self._count(name, len(ragged), int((np.diff(ragged.offsets) > 0).sum()))

    def _count(self, name: str, values: int, present: int) -> None:
        self._values[name] = self._values.get(name, 0) + values
        self._present[name] = self._present.get(name, 0) + present

    def report(self) -> list[FeatureCoverage]:
        """Return each feature's coverage, the emptiest first."""
        found = [
            FeatureCoverage(name, values, self._present[name] / values if values else 0.0, self._mean(name))
            for name, values in self._values.items()
        ]
        return sorted(found, key=lambda coverage: (coverage.present, coverage.feature))

    def _mean(self, name: str) -> float | None:
        if name not in self._sums or not self._present[name]:
            return None
        return self._sums[name] / self._present[name]
