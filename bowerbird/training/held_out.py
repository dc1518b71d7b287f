"""Held-out samples with a model's answers: what calibration, metrics and gates look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bowerbird.bundles.calibrate import Calibrations
from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.errors import InputError
from bowerbird.plan.block import Keys, Numbers
from bowerbird.training.blocks import chunks
from bowerbird.training.dataset import Labels, SampleFolder, SampleRows
from bowerbird.training.report import Report, Slicers, category_slicers, date_slicer, report
from bowerbird.training.split import DateRange


@dataclass(frozen=True)
class HeldOut:
    """Logits by task beside labels, weights and users; ``slicers`` are columns to report by."""

    logits: dict[str, Logits]
    labels: Labels
    weight: Numbers
    user: Keys
    slicers: Slicers

    def report(self, calibrations: Calibrations) -> Report:
        """Return the calibrated scores' metrics."""
        return report(self.logits, calibrations, self.labels, self.weight, self.user, self.slicers)


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


def score_range(samples: SampleFolder, dates: DateRange, model: LogitModel) -> HeldOut:
    """Return the samples of a date range with a model's logits."""
    rows = read_range(samples, dates)
    categories = {
        feature.name: np.concatenate([part.block.categories[feature.name] for part in rows])
        for feature in samples.plan.of_kind("category")
    }
    slicers: Slicers = {"date": date_slicer(np.concatenate([part.time for part in rows]))}
    return HeldOut(
        score_rows(rows, model),
        {task.name: np.concatenate([part.labels[task.name] for part in rows]) for task in samples.tasks},
        np.concatenate([part.weight for part in rows]),
        np.concatenate([part.user for part in rows]),
        slicers | category_slicers(categories),
    )
