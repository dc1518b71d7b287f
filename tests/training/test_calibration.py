import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from bowerbird.bundles.calibrate import (
    Identity,
    Isotonic,
    Platt,
    calibrate,
    calibrations_from_json,
    calibrations_to_json,
    logistic,
)
from bowerbird.training.calibration import fit_calibration, fit_isotonic, fit_platt, pool_adjacent_violators
from bowerbird.training.metrics import log_loss, pcoc


def drawn(random, truth, rows=20_000):
    logit = random.normal(size=rows) * 1.5
    label = (random.random(rows) < truth(logit)).astype(float)
    return logit, label, np.ones(rows), random.integers(0, 2**60, rows).astype(np.uint64)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=40))
def test_pools_equal_sklearn(pairs):
    values, weight = (np.array(column) for column in zip(*pairs, strict=True))
    level, mass, pool = pool_adjacent_violators(values, weight)
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values, sample_weight=weight)
    assert np.allclose(level[pool], expected)
    assert mass.sum() == pytest.approx(weight.sum())


def test_platt_equals_unpenalised_logistic_regression(random):
    logit, label, weight, _ = drawn(random, lambda x: logistic(0.6 * x - 1), rows=3000)
    weight = random.random(3000) + 0.5
    fitted = fit_platt(logit, label, weight)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], label, sample_weight=weight)
    assert fitted.slope == pytest.approx(expected.coef_[0, 0], rel=1e-4)
    assert fitted.intercept == pytest.approx(expected.intercept_[0], rel=1e-4)


def test_right_logits_are_left_nearly_alone(random):
    logit, label, weight, user = drawn(random, logistic)
    chosen = fit_calibration(logit, label, weight, user)
    assert isinstance(chosen, Platt) and chosen.slope == 1
    assert chosen.intercept == pytest.approx(0, abs=0.06)


def test_a_stretched_logit_gets_platt(random):
    logit, label, weight, user = drawn(random, lambda x: logistic(0.4 * x - 0.5))
    chosen = fit_calibration(logit, label, weight, user)
    assert isinstance(chosen, Platt)
    assert chosen.slope == pytest.approx(0.4, abs=0.05)


def test_a_bent_curve_gets_isotonic_and_is_better(random):
    logit, label, weight, user = drawn(random, lambda x: np.where(x > 0, 0.9, 0.1))
    chosen = fit_calibration(logit, label, weight, user)
    assert isinstance(chosen, Isotonic)
    fresh = drawn(np.random.default_rng(99), lambda x: np.where(x > 0, 0.9, 0.1))
    better = log_loss(fresh[1], calibrate(chosen, fresh[0]), fresh[2])
    assert better < log_loss(fresh[1], calibrate(fit_platt(logit, label, weight), fresh[0]), fresh[2]) - 0.01


def test_the_mean_prediction_becomes_the_mean_label(random):
    logit, label, weight, user = drawn(random, lambda x: logistic(x - 2))
    score = calibrate(fit_calibration(logit, label, weight, user), logit)
    assert pcoc(label, score, weight) == pytest.approx(1, abs=0.005)


def test_isotonic_never_falls_nor_becomes_certain(random):
    logit, label, weight, _ = drawn(random, logistic, rows=500)
    fitted = fit_isotonic(logit, label, weight)
    assert np.all(np.diff(fitted.logits) > 0)
    assert np.all(np.diff(fitted.probabilities) >= 0)
    score = calibrate(fitted, np.linspace(-50, 50, 1001))
    assert score.min() > 0 and score.max() < 1
    assert np.all(np.diff(score) >= 0)


def test_too_few_positives_fit_nothing(random):
    label = np.zeros(100)
    label[:3] = 1
    chosen = fit_calibration(random.normal(size=100), label, np.ones(100), np.arange(100).astype(np.uint64))
    assert chosen == Identity()


def test_json_round_trip():
    every = {"a": Identity(), "b": Platt(1.5, -0.25), "c": Isotonic([-1.0, 2.0], [0.1, 0.9])}
    assert calibrations_from_json(calibrations_to_json(every)) == every


def test_calibrate_known_values():
    logits = np.array([-1000.0, 0.0, 1000.0], np.float32)
    assert calibrate(Identity(), logits).tolist() == [0.0, 0.5, 1.0]
    assert calibrate(Platt(1.0, np.log(3)), logits)[1] == pytest.approx(0.75)
    assert calibrate(Isotonic([-1.0, 1.0], [0.2, 0.4]), logits).tolist() == pytest.approx([0.2, 0.3, 0.4])


def test_a_backward_ranking_is_not_turned_round(random):
    logit = random.normal(size=5000)
    label = (random.random(5000) < 1 / (1 + np.exp(logit))).astype(np.float64)
    fitted = fit_platt(logit, label, np.ones(5000))
    assert fitted.slope == 1.0
