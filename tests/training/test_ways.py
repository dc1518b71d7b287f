"""How a way is compared with eager PyTorch."""

import numpy as np
import pytest

from bowerbird.bundles.way_results import judged
from bowerbird.training.ways import Samples, compare_scores


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
