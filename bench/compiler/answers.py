"""How well an engine keeps eager PyTorch's answers: differences of logits, and what publishing's gates ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.compiler.models import Case, expanded
from bowerbird.bundles.way_results import AUC_CHANGE, CALIBRATION_CHANGE, kendall
from bowerbird.training.quality.metrics import auc

Logits = npt.NDArray[np.float64]
REQUESTS, ROWS = 400, 50
"""Many requests, since what is rounded once per request shifts all of its candidates alike."""


@dataclass(frozen=True)
class Answers:
    """The largest difference of a logit (relative beyond 1), and the worst task's AUC, mean prediction and τ.

    ``calibration_shifted`` is the mean prediction's change where the way has a shift of its own, fitted on other
    requests: what rounded weights do is mostly that, and ``passed_shifted`` says whether it is within the gates then.
    """

    worst: float
    auc: float
    calibration: float
    kendall: float
    passed: bool
    calibration_shifted: float
    passed_shifted: bool


@dataclass(frozen=True)
class Change:
    """What an engine does to one task's AUC and mean prediction (relative), and τ of the two rankings."""

    auc: float
    calibration: float
    kendall: float

    @property
    def passed(self) -> bool:
        """Whether both changes, as estimated, are within what publishing's gates allow."""
        return abs(self.auc) <= AUC_CHANGE and abs(self.calibration) <= CALIBRATION_CHANGE


def expected(case: Case, features: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Return eager PyTorch's logits on tiled features."""
    with torch.no_grad():
        answers: dict[str, Tensor] = case.module(expanded(features, rows))
    return answers


def worst(answers: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Return the largest difference of a logit, relative where it is beyond 1."""
    differences = [(answers[name].float() - value).abs() / value.abs().clamp(min=1) for name, value in exact.items()]
    return max(float(each.nan_to_num(torch.inf).max()) for each in differences)


@cache
def _requests(case: Case) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return requests with eager PyTorch's logits."""
    features = [case.shape.features(ROWS, seed) for seed in range(REQUESTS)]
    return [(each, expected(case, each, ROWS)) for each in features]


def judge(case: Case, bind: Callable[[dict[str, Tensor], int], Callable[[], dict[str, Tensor]]]) -> Answers:
    """Compare 10,000 candidates of 200 requests, a shift fitted on as many more; labels are drawn from eager's."""
    requests = _requests(case)
    exact = [logits for _, logits in requests]
    with torch.no_grad():
        given = [{name: value.float().clone() for name, value in bind(each, ROWS)().items()} for each, _ in requests]
    tasks = [_compare([each[task] for each in exact], [each[task] for each in given]) for task in case.tasks]
    return Answers(
        worst=max(worst(answer, right) for answer, right in zip(given, exact, strict=True)),
        auc=max((each.auc for each, _ in tasks), key=abs),
        calibration=max((each.calibration for each, _ in tasks), key=abs),
        kendall=min(each.kendall for each, _ in tasks),
        passed=all(each.passed for each, _ in tasks),
        calibration_shifted=max((each.calibration for _, each in tasks), key=abs),
        passed_shifted=all(each.passed for _, each in tasks),
    )


def _compare(exact: list[Tensor], given: list[Tensor]) -> tuple[Change, Change]:
    """Compare the second half of the requests, as they are and with the shift that the first half asks for."""
    half = len(exact) // 2
    eager, served = (torch.cat(each[half:]).double().numpy() for each in (exact, given))
    shift = _shift(*(torch.cat(each[:half]).double().numpy() for each in (exact, given)))
    right = _probability(eager)
    label = (np.random.default_rng(0).random(len(eager)) < right).astype(np.float64)
    weight = np.ones(len(label))

    def compared(scores: Logits) -> Change:
        return Change(
            auc=auc(label, scores, weight) - auc(label, right, weight),
            calibration=float(scores.mean() / right.mean() - 1.0),
            kendall=kendall(right, scores),
        )

    return compared(_probability(served)), compared(_probability(served + shift))


def _shift(exact: Logits, given: Logits) -> float:
    """Return what to add to logits so that their mean prediction is the exact one's (Newton's method)."""
    shift, wanted = 0.0, _probability(exact).mean()
    for _ in range(20):
        predicted = _probability(given + shift)
        shift -= (predicted.mean() - wanted) / (predicted * (1 - predicted)).mean()
    return float(shift)


def _probability(logits: Logits) -> Logits:
    return 1.0 / (1.0 + np.exp(-logits))
