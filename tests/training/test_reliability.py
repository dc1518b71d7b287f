import itertools

import numpy as np
import pytest

from bowerbird.training.quality.reliability import reliability


def test_bins_hold_equal_weight_and_calibrated_scores_lie_in_them(random):
    score = random.random(30_000)
    label = (random.random(30_000) < score).astype(float)
    bins = reliability(label, score, np.ones(30_000), random.integers(0, 3000, 30_000).astype(np.uint64))
    assert len(bins) == 15 and all(one.rows == 2000 for one in bins)
    assert all(first.predicted < second.predicted for first, second in itertools.pairwise(bins))
    assert sum(one.low <= one.predicted <= one.high for one in bins) >= 12
    off = reliability(label, score**2, np.ones(30_000), np.arange(30_000).astype(np.uint64))
    assert sum(one.low <= one.predicted <= one.high for one in off) <= 4


def test_ties_share_a_bin_and_weights_count():
    label, score = np.array([1.0, 0, 1, 0, np.nan]), np.array([0.5, 0.5, 0.5, 0.5, 0.9])
    (only,) = reliability(label, score, np.array([3.0, 1, 0, 0, 1]), np.arange(5).astype(np.uint64))
    assert (only.rows, only.predicted) == (2, 0.5)
    assert only.happened == pytest.approx(0.75) and 0 <= only.low < 0.75 < only.high <= 1
    assert reliability(label[-1:], score[-1:], np.ones(1), np.zeros(1, np.uint64)) == []
