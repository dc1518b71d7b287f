"""What a way of serving does to the scores of held-out samples, once its mean is moved to where it belongs."""

from __future__ import annotations

import numpy as np

from bowerbird.bundles.calibrate import Calibrations
from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.bundles.staged_model import Way
from bowerbird.bundles.way_results import WayResult, is_exact, judged
from bowerbird.bundles.ways import served_by, shifted
from bowerbird.training.publishing.gate_samples import GateSamples
from bowerbird.training.publishing.ways import compare_scores, fitted_shift

FITTED = 4
"""One user of so many has samples to fit shifts on; those of the others judge."""


class WayJudge:
    """Compares ways with eager PyTorch, whose scores are computed once.

    A way in fewer bits rounds weights, always the same way: what this does to the mean prediction is undone by a shift
    of the logits, which some users' samples give and the others' judge.
    """

    def __init__(self, samples: GateSamples, eager: LogitModel, calibrations: Calibrations) -> None:
        self._samples = samples
        self._calibrations = calibrations
        self._eager = samples.scores(eager, calibrations)
        self._fits = samples.user % np.uint64(FITTED) == 0

    def result(self, name: str, published: LogitModel, way: Way) -> WayResult:
        """Return what is measured of a way of serving a model; InputError where the way has no steps for it."""
        logits = self._samples.logits(served_by(published, way))
        shifts = {} if is_exact(name) else {task: self._shift(task, values) for task, values in logits.items()}
        rows = np.ones(len(self._fits), bool) if is_exact(name) else ~self._fits
        served = self._scores(logits, shifts)
        tasks = [
            compare_scores(task, eager[rows], served[task][rows], self._samples.samples(task).chosen(rows))
            for task, eager in self._eager.items()
        ]
        return judged(name, tasks, shifted(way, published, shifts).shifts)

    def _scores(self, logits: dict[str, Logits], shifts: dict[str, float]) -> dict[str, np.ndarray]:
        moved = {task: values + np.float32(shifts.get(task, 0.0)) for task, values in logits.items()}
        return self._samples.calibrated(moved, self._calibrations)

    def _shift(self, task: str, logits: Logits) -> float:
        rows = self._fits
        return fitted_shift(
            self._eager[task][rows],
            lambda shift: self._scores({task: logits}, {task: shift})[task][rows],
            self._samples.weight[rows],
        )
