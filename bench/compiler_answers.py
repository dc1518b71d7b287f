"""How well an engine keeps eager PyTorch's answers: differences of logits, and what publishing's gates ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.compiler_models import Case, expanded
from bowerbird.bundles.way_results import compare_scores
from bowerbird.training.metrics import auc

REQUESTS, ROWS = 20, 500


@dataclass(frozen=True)
class Answers:
    """The largest difference of a logit (relative beyond 1), and the worst task's AUC, mean prediction and τ."""

    worst: float
    auc: float
    calibration: float
    kendall: float
    passed: bool


def expected(case: Case, features: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Return eager PyTorch's logits on tiled features."""
    with torch.no_grad():
        answers: dict[str, Tensor] = case.module(expanded(features, rows))
    return answers


def worst(answers: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Return the largest difference of a logit, relative where it is beyond 1."""
    differences = [(answers[name].float() - value).abs() / value.abs().clamp(min=1) for name, value in exact.items()]
    return max(float(each.nan_to_num(torch.inf).max()) for each in differences)


def judge(case: Case, bind: Callable[[dict[str, Tensor], int], Callable[[], dict[str, Tensor]]]) -> Answers:
    """Compare 10,000 candidates of 20 requests; labels are drawn from eager PyTorch's probabilities."""
    requests = [case.shape.features(ROWS, seed) for seed in range(REQUESTS)]
    exact = [expected(case, features, ROWS) for features in requests]
    with torch.no_grad():
        given = [{name: value.float().clone() for name, value in bind(each, ROWS)().items()} for each in requests]
    tasks = []
    for task in case.tasks:
        eager, served = (_probabilities([each[task] for each in every]) for every in (exact, given))
        label = (np.random.default_rng(0).random(len(eager)) < eager).astype(np.float64)
        weight = np.ones(len(label))
        tasks.append(compare_scores(task, eager, served, auc(label, eager, weight), auc(label, served, weight)))
    return Answers(
        worst=max(worst(answer, right) for answer, right in zip(given, exact, strict=True)),
        auc=max((each.auc or 0.0 for each in tasks), key=abs),
        calibration=max((each.calibration for each in tasks), key=abs),
        kendall=min(each.kendall for each in tasks),
        passed=all(each.passed for each in tasks),
    )


def _probabilities(logits: list[Tensor]) -> np.ndarray:
    return torch.sigmoid(torch.cat(logits).double()).numpy()
