"""How a way is compared with eager PyTorch, once its mean is moved to where it belongs."""

import numpy as np
import pytest

from bowerbird.bundles.calibrate import Identity, Platt, calibrate, logistic
from bowerbird.bundles.staged_model import Way
from bowerbird.bundles.way_results import judged
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.training.publishing import way_judge
from bowerbird.training.publishing.way_judge import FITTED, WayJudge
from bowerbird.training.publishing.ways import Samples, compare_scores, fitted_shift


def drawn(rows: int) -> tuple[np.ndarray, Samples]:
    random = np.random.default_rng(1)
    scores = random.uniform(0.05, 0.6, rows)
    labels = (random.random(rows) < scores).astype(np.float64)
    return scores, Samples(labels, np.ones(rows), random.integers(0, rows // 10, rows).astype(np.uint64))


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        (lambda scores: scores, True),
        (lambda scores: scores * 1.0005, True),
        (lambda scores: scores * 1.002, False),
        (lambda scores: scores + np.random.default_rng(2).normal(0, 0.05, len(scores)), False),
    ],
)
def test_fewer_bits_are_judged_by_auc_and_mean(change, passed):
    scores, samples = drawn(4000)
    result = judged("native.int8", [compare_scores("click", scores, change(scores), samples)])
    assert result.passed is passed, result.note


def test_the_same_scores_of_few_samples_allow_float32_alone():
    scores, samples = drawn(60)
    measured = compare_scores("click", scores, scores + 1e-7, samples)
    assert judged("native.fp32", [measured]).passed
    assert "too few" in judged("native.bf16", [measured]).note


def test_unknown_labels_are_left_out_of_auc_and_counts():
    scores, samples = drawn(1000)
    labels = samples.labels.copy()
    labels[::2] = np.nan
    measured = compare_scores("click", scores, scores, Samples(labels, samples.weight, samples.user))
    assert measured.positives + measured.negatives == 500
    assert measured.auc.estimate == 0.0 and measured.calibration.high == pytest.approx(0.0)


class Held:
    """Held-out samples whose logits a model simply has."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(3)
        self.user = random.integers(0, rows // 10, rows).astype(np.uint64)
        self.weight = random.uniform(0.5, 2.0, rows)
        self.exact = random.normal(-1.5, 1.0, rows).astype(np.float32)
        self.labels = (random.random(rows) < logistic(self.exact.astype(np.float64))).astype(np.float64)

    def logits(self, model):
        return {"click": model}

    def calibrated(self, logits, calibrations):
        return {task: calibrate(calibrations[task], values) for task, values in logits.items()}

    def scores(self, model, calibrations):
        return self.calibrated(self.logits(model), calibrations)

    def samples(self, task):
        return Samples(self.labels, self.weight, self.user)


@pytest.mark.parametrize("calibration", [Identity(), Platt(0.8, 0.3)])
def test_a_shift_fitted_on_some_users_brings_the_mean_of_the_others_within_the_gate(calibration, monkeypatch):
    held = Held(40_000)
    monkeypatch.setattr(way_judge, "served_by", lambda published, way: published)
    judge = WayJudge(held, held.exact, {"click": calibration})
    moved = held.exact + np.float32(0.01) + np.random.default_rng(4).normal(0, 1e-3, len(held.exact)).astype(np.float32)
    for name, passed in (("native.bf16", True), ("native.fp32", False)):
        result = judge.result(name, moved, Way(Interpreter(), "fp32"))
        assert result.passed is passed, result.note
        assert (abs(result.shifts["click"] + 0.01) < 1e-4) if passed else not result.shifts
    judging = int((held.user % FITTED != 0).sum())
    fewer = judge.result("native.bf16", moved, Way(Interpreter(), "fp32"))
    assert fewer.tasks[0].positives + fewer.tasks[0].negatives == judging


def test_a_shift_is_found_within_a_half_and_none_without_samples():
    scores, weight = np.array([0.2, 0.4]), np.ones(2)
    logits = np.log(scores / (1 - scores))
    assert fitted_shift(scores, lambda shift: logistic(logits + 0.3 + shift), weight) == pytest.approx(-0.3, abs=1e-6)
    assert fitted_shift(scores, lambda shift: logistic(logits + 9 + shift), weight) == pytest.approx(-0.5, abs=1e-6)
    assert fitted_shift(scores[:0], lambda shift: scores[:0], weight[:0]) == 0.0
