"""Held-out samples with a model's answers: what calibration, metrics and gates look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bowerbird.bundles.calibrate import Calibration, Calibrations, Probabilities, calibrate
from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.errors import InputError
from bowerbird.plan.block import Keys, Numbers
from bowerbird.plan.block_rows import chunks
from bowerbird.training.batches.dataset import Labels, SampleFolder, SampleRows
from bowerbird.training.batches.down_sampling import population_weight
from bowerbird.training.batches.split import DateRange
from bowerbird.training.calibration.fit import AUTOMATIC, fit_calibration
from bowerbird.training.quality.report import Report, Slicers, category_slicers, date_slicer, report


@dataclass(frozen=True)
class HeldOut:
    """Logits by task beside labels, users and category features, whose keys are uint64 [rows].

    ``weight`` stands for the population: ``sample_weight`` is what the samples themselves say, before negatives that
    were left out of them are counted. ``slicers`` are columns to report by; ``given`` names, by task, the task that
    must happen first.
    """

    logits: dict[str, Logits]
    labels: Labels
    weight: Numbers
    user: Keys
    slicers: Slicers
    categories: dict[str, Keys]
    sample_weight: Numbers
    given: dict[str, str]

    def calibrations(self, method: str = AUTOMATIC) -> Calibrations:
        """Return a calibration of each task fitted on these samples; see ``fit_calibration``."""
        return {task: self._calibration(task, method) for task in self.logits}

    def _calibration(self, task: str, method: str) -> Calibration:
        return fit_calibration(
            self.logits[task],
            self.labels[task],
            self.weight,
            self.user,
            categories=self.categories,
            method=method,
            trained_weight=self.sample_weight,
        )

    def scores(self, calibrations: Calibrations) -> dict[str, Probabilities]:
        """Return calibrated probabilities by task, float64 [rows]."""
        return {task: calibrate(calibrations[task], values, self.categories) for task, values in self.logits.items()}

    def report(self, calibrations: Calibrations) -> Report:
        """Return the calibrated scores' metrics."""
        return report(
            self.scores(calibrations),
            self.labels,
            self.weight,
            self.user,
            slicers=self.slicers,
            categories=self.categories,
            given=self.given,
        )


def read_range(samples: SampleFolder, dates: DateRange) -> list[SampleRows]:
    """Return the samples of a date range, one entry per file; raises InputError when there are none."""
    rows = [part for part in samples.read(dates.since, dates.until) if len(part)]
    if not rows:
        raise InputError(f"There are no samples in {dates}.", "Choose other dates.")
    return rows


def score_rows(rows: list[SampleRows], model: LogitModel) -> dict[str, Logits]:
    """Return a model's logits by task for samples."""
    pieces = [model.logits(chunk) for part in rows for chunk in chunks(part.block, len(part))]
    return {task: np.concatenate([piece[task] for piece in pieces]) for task in pieces[0]}


def score_range(samples: SampleFolder, dates: DateRange, model: LogitModel, negative_rate: float = 1.0) -> HeldOut:
    """Return the samples of a date range with a model's logits.

    ``negative_rate`` is the share of negatives that were kept before the samples were made and that their weights do
    not know of; see ``population_weight``.
    """
    rows = read_range(samples, dates)
    return held_out(samples, rows, score_rows(rows, model), negative_rate)


def held_out(
    samples: SampleFolder, rows: list[SampleRows], logits: dict[str, Logits], negative_rate: float = 1.0
) -> HeldOut:
    """Return samples that have been read beside a model's logits for them, by task."""
    categories = {
        feature.name: np.concatenate([part.block.categories[feature.name] for part in rows])
        for feature in samples.plan.of_kind("category")
    }
    slicers: Slicers = {"date": date_slicer(np.concatenate([part.time for part in rows]))}
    labels = {task.name: np.concatenate([part.labels[task.name] for part in rows]) for task in samples.tasks}
    weight = np.concatenate([part.weight for part in rows])
    return HeldOut(
        logits,
        labels,
        population_weight(labels, weight, negative_rate),
        np.concatenate([part.user for part in rows]),
        slicers | category_slicers(categories),
        categories,
        weight,
        {task.name: task.given for task in samples.tasks if task.given is not None},
    )
