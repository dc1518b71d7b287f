import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.training.quality.influence import (
    Estimate,
    auc_influence,
    clustered,
    log_loss_influence,
    log_pcoc_influence,
)
from bowerbird.training.quality.metrics import auc, log_loss, pcoc
from tests.training.test_bootstrap import clustered as drawn


def owners(user):
    return np.unique(user, return_inverse=True)[1]


@given(st.integers(0, 2**32))
def test_values_are_the_metrics_and_influences_their_derivatives_by_a_sample_s_weight(seed):
    random = np.random.default_rng(seed)
    label = np.concatenate([[0.0, 1.0], random.integers(0, 2, 28)]).astype(float)
    score, weight = random.random(30).round(1) * 0.9 + 0.05, random.random(30) + 0.5
    for influence, metric in (
        (auc_influence, auc),
        (log_loss_influence, log_loss),
        (log_pcoc_influence, lambda *args: np.log(pcoc(*args))),
    ):
        found = influence(label, score, weight)
        assert found.value == pytest.approx(metric(label, score, weight))
        assert found.influence.sum() == pytest.approx(0, abs=1e-12)
        heavier = weight.copy()
        heavier[3] *= 1 + 1e-6
        slope = (metric(label, score, heavier) - metric(label, score, weight)) / 1e-6
        assert found.influence[3] == pytest.approx(slope, abs=2e-5)


def test_errors_are_the_spread_between_draws_of_users():
    estimates, errors = [], []
    for seed in range(100):
        label, score, weight, user = drawn(np.random.default_rng(seed))
        score = 1 / (1 + np.exp(-score))
        found = [
            clustered(influence(label, score, weight), owners(user))
            for influence in (auc_influence, log_loss_influence, log_pcoc_influence)
        ]
        estimates.append([one.value for one in found])
        errors.append([one.error for one in found])
    assert np.mean(errors, axis=0) == pytest.approx(np.std(estimates, axis=0), rel=0.2)


def test_a_sample_counted_twice_by_its_user_adds_no_certainty():
    label, score, weight, user = drawn(np.random.default_rng(3))
    once = clustered(auc_influence(label, score, weight), owners(user))
    twice = [np.tile(column, 2) for column in (label, score, weight, user)]
    again = clustered(auc_influence(*twice[:3]), owners(twice[3]))
    assert again.error == pytest.approx(once.error)


@pytest.mark.parametrize(("freedom", "student"), [(3, 3.182446), (10, 2.228139), (100, 1.983972), (1e6, 1.959966)])
def test_few_users_widen_intervals_as_student_says(freedom, student):
    estimate = Estimate(0.0, 1.0, freedom)
    assert estimate.interval().high == pytest.approx(student, rel=0.015)
    assert Estimate(student, 1.0, freedom).chance() == pytest.approx(0.975, abs=2e-3)
    assert Estimate(-student, 1.0, freedom).chance() == pytest.approx(0.025, abs=2e-3)


def test_one_class_has_no_auc():
    found = auc_influence(np.ones(3), np.array([0.1, 0.2, 0.3]), np.ones(3))
    assert np.isnan(found.value) and not found.influence.any()
