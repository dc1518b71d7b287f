import numpy as np
import pytest

from bowerbird.training.quality.bootstrap import auc_difference, auc_interval, pcoc_interval
from bowerbird.training.quality.metrics import auc


def clustered(random, users=200, each=10):
    """Return rows whose labels depend on the user, so that samples are not independent."""
    user = np.repeat(np.arange(users), each).astype(np.uint64)
    liking = random.normal(size=users)[user.astype(int)]
    label = (random.random(len(user)) < 1 / (1 + np.exp(-liking))).astype(float)
    return label, liking + random.normal(size=len(user)), np.ones(len(user)), user


def test_the_estimate_is_the_metric_and_lies_inside(random):
    label, score, weight, user = clustered(random)
    interval = auc_interval(label, score, weight, user)
    assert interval.estimate == auc(label, score, weight)
    assert interval.low < interval.estimate < interval.high


def test_the_interval_covers_the_spread_between_draws_of_users():
    estimates, widths = [], []
    for seed in range(40):
        label, score, weight, user = clustered(np.random.default_rng(seed))
        interval = auc_interval(label, score, weight, user)
        estimates.append(interval.estimate)
        widths.append(interval.high - interval.low)
    assert np.mean(widths) == pytest.approx(3.92 * np.std(estimates), rel=0.4)


def test_a_paired_difference_is_tighter_than_two_intervals(random):
    label, score, weight, user = clustered(random)
    noisy = score + 0.1 * random.normal(size=len(score))
    paired = auc_difference(label, score, noisy, weight, user)
    alone = auc_interval(label, score, weight, user)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    same = auc_difference(label, score, score, weight, user)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_it_is_the_same_every_time(random):
    label, score, weight, user = clustered(random)
    assert auc_interval(label, score, weight, user) == auc_interval(label, score, weight, user)


def test_pcoc_of_calibrated_scores_covers_one(random):
    score = random.random(4000)
    label = (random.random(4000) < score).astype(float)
    user = random.integers(0, 300, 4000).astype(np.uint64)
    interval = pcoc_interval(label, score, np.ones(4000), user)
    assert interval.low < 1 < interval.high


def test_nothing_to_resample_is_undefined():
    interval = auc_interval(np.array([np.nan]), np.array([0.1]), np.ones(1), np.array([3], np.uint64))
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()
