"""A run's metrics: by task on validation and test, with intervals, and by slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.bundles.calibrate import Calibrations, calibrate
from bowerbird.plan.block import Keys
from bowerbird.training.bootstrap import auc_interval
from bowerbird.training.dataset import Labels
from bowerbird.training.metrics import Floats, measure

_DAY = 86_400_000_000
_MOST_VALUES = 25
"""A category with more values than this is not sliced by."""

Report = dict[str, Any]
"""Plain data: by task, the fields of ``Metrics``, ``auc_low`` and ``auc_high`` (95%), and ``slices``."""
Slicers = dict[str, npt.NDArray[Any]]
"""By name, one value per row."""


def report(
    logits: Mapping[str, Floats],
    calibrations: Calibrations,
    labels: Labels,
    weight: Floats,
    user: Keys,
    slicers: Slicers,
) -> Report:
    """Return the metrics of calibrated scores by task, with an interval of AUC and every slice's metrics."""
    result: Report = {}
    for task, values in logits.items():
        score = calibrate(calibrations[task], values)
        interval = auc_interval(labels[task], score, weight, user)
        metrics: Report = msgspec.to_builtins(measure(labels[task], score, weight, user))
        metrics |= {"auc_low": interval.low, "auc_high": interval.high}
        metrics["slices"] = {
            name: _slice(column, labels[task], score, weight, user) for name, column in slicers.items()
        }
        result[task] = metrics
    return result


def date_slicer(time: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Return the UTC date of each time in microseconds."""
    return (time // _DAY).astype("datetime64[D]").astype(np.str_)


def category_slicers(categories: Mapping[str, Keys]) -> Slicers:
    """Return the categories with few values, each value as its key in hexadecimal."""
    slicers: Slicers = {}
    for name, keys in categories.items():
        values, inverse = np.unique(keys, return_inverse=True)
        if 1 < len(values) <= _MOST_VALUES:
            slicers[name] = np.array([f"{int(value):016x}" for value in values])[inverse]
    return slicers


def _slice(column: npt.NDArray[Any], label: Floats, score: Floats, weight: Floats, user: Keys) -> dict[str, Report]:
    slices = {}
    for value in np.unique(column):
        inside = column == value
        slices[str(value)] = msgspec.to_builtins(measure(label[inside], score[inside], weight[inside], user[inside]))
    return slices
