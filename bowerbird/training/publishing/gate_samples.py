"""Held-out samples as the gates of a publication see them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bowerbird.bundles.calibrate import Calibrations, Calibrator
from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.plan.block import Keys
from bowerbird.plan.block_rows import Indices, take_rows
from bowerbird.training.batches.dataset import SampleRows
from bowerbird.training.batches.down_sampling import population_weight
from bowerbird.training.publishing.ways import Samples
from bowerbird.training.quality.held_out import score_rows
from bowerbird.training.quality.metrics import auc, log_loss


class GateSamples:
    """Labels, population weights and users of samples, and what models answer for them."""

    def __init__(self, rows: list[SampleRows], negative_rate: float) -> None:
        self.rows = rows
        self._negative_rate = negative_rate
        self.labels = {task: np.concatenate([part.labels[task] for part in rows]) for task in rows[0].labels}
        weight = np.concatenate([part.weight for part in rows])
        self.weight = population_weight(self.labels, weight, negative_rate).astype(np.float64)
        self.user = np.concatenate([part.user for part in rows])

    def spread(self, most: int) -> GateSamples:
        """Return at most so many of the samples, evenly spread."""
        total = len(self.user)
        if total <= most:
            return self
        chosen = np.linspace(0, total - 1, most).astype(np.int64)
        starts = np.cumsum([0, *(len(part) for part in self.rows)])
        parts = [
            _taken(part, chosen[(chosen >= start) & (chosen < start + len(part))] - start)
            for part, start in zip(self.rows, starts[:-1], strict=True)
        ]
        return GateSamples([part for part in parts if len(part)], self._negative_rate)

    def samples(self, task: str) -> Samples:
        """Return what a task's scores are compared by."""
        return Samples(self.labels[task].astype(np.float64), self.weight, self.user)

    def scores(self, model: LogitModel, calibrations: Calibrations) -> dict[str, np.ndarray]:
        """Return a model's calibrated scores by task."""
        return self.calibrated(self.logits(model), calibrations)

    def logits(self, model: LogitModel) -> dict[str, Logits]:
        """Return a model's logits by task."""
        return score_rows(self.rows, model)

    def calibrated(self, logits: Mapping[str, Logits], calibrations: Calibrations) -> dict[str, np.ndarray]:
        """Return the scores by task that logits of these samples stand for."""
        calibrators = {task: Calibrator(calibration) for task, calibration in calibrations.items()}
        return {
            task: calibrators[task](values, self._categories(calibrators[task].field))
            for task, values in logits.items()
        }

    def _categories(self, name: str) -> dict[str, Keys]:
        return {name: np.concatenate([part.block.categories[name] for part in self.rows])} if name else {}

    def auc_and_loss(self, task: str, score: np.ndarray) -> tuple[float, float]:
        """Return AUC and log loss of a task's scores over the samples with a known label."""
        mature = ~np.isnan(self.labels[task])
        values = (self.labels[task][mature].astype(np.float64), score[mature], self.weight[mature])
        return auc(*values), log_loss(*values)


def _taken(part: SampleRows, chosen: Indices) -> SampleRows:
    return SampleRows(
        take_rows(part.block, chosen),
        {task: values[chosen] for task, values in part.labels.items()},
        part.weight[chosen],
        part.user[chosen],
        part.item[chosen],
        part.time[chosen],
    )
