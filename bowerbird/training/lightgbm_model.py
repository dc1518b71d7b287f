"""Gradient-boosted trees on the same plan's features: what a deep model is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bowerbird.bundles.scorer import import_lightgbm
from bowerbird.models.task import Task
from bowerbird.models.tree_columns import Matrix, TreeColumns
from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import SampleRows
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.progress import Reporter
from bowerbird.training.trained import TrainedTrees

DEFAULTS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.25,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 127,
    "cat_smooth": 20.0,
    "max_cat_threshold": 64,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "rounds": 1000,
    "early_stopping": 50,
    "minimum_count": 2,
}
"""LightGBM's parameters, and ``rounds``, ``early_stopping`` (rounds) and ``minimum_count`` (of a key)."""


def train_trees(
    plan: Plan,
    tasks: tuple[Task, ...],
    train: list[SampleRows],
    validation: list[SampleRows],
    options: Mapping[str, Any],
    seed: int,
    reporter: Reporter,
) -> TrainedTrees:
    """Train one booster per task, stopped early on validation; raises MissingExtraError without LightGBM."""
    lightgbm = import_lightgbm()
    parameters = {**DEFAULTS, **options, "seed": seed, "num_threads": torch.get_num_threads()}
    columns = TreeColumns(plan, int(parameters.pop("minimum_count")))
    if columns.skipped:
        reporter.say(f"LightGBM cannot read sequences; skipped: {', '.join(columns.skipped)}")
    columns.fit(count_keys(plan, train))
    inside, held = _matrix(columns, train), _matrix(columns, validation)
    boosters = {}
    for task in tasks:
        fitted = _dataset(lightgbm, columns, parameters, inside, train, task.name, None)
        watched = _dataset(lightgbm, columns, parameters, held, validation, task.name, fitted)
        booster = _fit(lightgbm, dict(parameters), fitted, watched)
        reporter.say(f"{task.name}: {booster.best_iteration} trees")
        boosters[task.name] = booster.model_to_string(num_iteration=booster.best_iteration)
    return TrainedTrees(columns, boosters)


def _fit(lightgbm: Any, parameters: dict[str, Any], fitted: Any, watched: Any) -> Any:
    rounds, patience = int(parameters.pop("rounds")), int(parameters.pop("early_stopping"))
    parameters["metric"] = "auc"
    stopping = lightgbm.early_stopping(patience, verbose=False)
    return lightgbm.train(parameters, fitted, rounds, valid_sets=[watched], callbacks=[stopping])


def _dataset(
    lightgbm: Any,
    columns: TreeColumns,
    parameters: Mapping[str, Any],
    matrix: Matrix,
    rows: list[SampleRows],
    task: str,
    reference: Any,
) -> Any:
    label = np.concatenate([part.labels[task] for part in rows])
    weight = np.concatenate([part.weight for part in rows])
    mature = ~np.isnan(label)
    return lightgbm.Dataset(
        matrix[mature],
        label[mature],
        weight=weight[mature],
        feature_name=_safe(columns.names),
        categorical_feature=_safe(columns.categorical),
        reference=reference,
        params={name: parameters[name] for name in ("max_bin", "min_data_in_leaf", "verbosity")},
    )


def _matrix(columns: TreeColumns, rows: Iterable[SampleRows]) -> Matrix:
    matrix: npt.NDArray[np.float64] = np.concatenate([columns.transform(part.block) for part in rows])
    return matrix


def _safe(names: list[str]) -> list[str]:
    """Return names without the characters that LightGBM's text format cannot hold."""
    return ["".join(letter if letter.isalnum() else "_" for letter in name) for name in names]
