"""A run's metrics: by task on validation and test, with intervals, and by slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.plan.block import Keys
from bowerbird.training.batches.dataset import Labels
from bowerbird.training.quality.bootstrap import auc_interval
from bowerbird.training.quality.metrics import Floats, Metrics, field_calibration_error, measure

_DAY = 86_400_000_000
_SMALLEST = 1e-12
_MOST_VALUES = 25
"""A category with more values than this is not sliced by."""

Report = dict[str, Any]
"""Plain data: by task, the fields of ``Metrics``, ``auc_low`` and ``auc_high`` (95%), ``field_ece`` by category
feature, ``slices``, and ``conditional`` where the task is given another."""
Slicers = dict[str, npt.NDArray[Any]]
"""By name, one value per row."""
SCALARS = (*Metrics.__struct_fields__, "auc_low", "auc_high")
"""The entries of a task's report that are numbers."""


def report(
    scores: Mapping[str, Floats],
    labels: Labels,
    weight: Floats,
    user: Keys,
    *,
    slicers: Slicers | None = None,
    categories: Mapping[str, Keys] | None = None,
    given: Mapping[str, str] | None = None,
) -> Report:
    """Return the metrics of calibrated scores by task.

    A task's own entries are over all exposures. Where it is ``given`` another (order given click), that is CTCVR,
    and ``conditional`` holds the same of CVR: p(both) / p(first) against its label on exposures where the first
    happened.
    """
    result: Report = {}
    for task, score in scores.items():
        label = labels[task]
        metrics = measured(label, score, weight, user)
        metrics["field_ece"] = _field_errors(categories or {}, label, score, weight)
        if given and task in given:
            metrics["conditional"] = _conditional(scores, labels, weight, user, task, given[task])
        metrics["slices"] = {
            name: _slice(column, label, score, weight, user) for name, column in (slicers or {}).items()
        }
        result[task] = metrics
    return result


def measured(label: Floats, score: Floats, weight: Floats, user: Keys) -> Report:
    """Return the metrics of one task as plain data, with the interval of its AUC."""
    interval = auc_interval(label, score, weight, user)
    metrics: Report = msgspec.to_builtins(measure(label, score, weight, user))
    return metrics | {"auc_low": interval.low, "auc_high": interval.high}


def conditional_score(score: Floats, first: Floats) -> npt.NDArray[np.float64]:
    """Return p(task given first) = p(both) / p(first), at most 1."""
    return np.minimum(score / np.maximum(first, _SMALLEST), 1.0).astype(np.float64)


def _conditional(
    scores: Mapping[str, Floats], labels: Labels, weight: Floats, user: Keys, task: str, first: str
) -> Report:
    happened = labels[first] == 1
    score = conditional_score(scores[task][happened], scores[first][happened])
    return {"given": first} | measured(labels[task][happened], score, weight[happened], user[happened])


def _field_errors(categories: Mapping[str, Keys], label: Floats, score: Floats, weight: Floats) -> dict[str, float]:
    mature = ~np.isnan(label)
    columns = (label[mature].astype(np.float64), score[mature], weight[mature].astype(np.float64))
    return {name: field_calibration_error(*columns, keys[mature]) for name, keys in categories.items()}


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
