import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from bowerbird.training.quality.metrics import auc, calibration_error, gauc, log_loss, measure, normalised_entropy, pcoc

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([0.1, 0.25, 0.25001, 0.5, 0.75, 0.9]),
        st.sampled_from([0.5, 1.0, 3.0]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=60,
)


def columns(rows):
    label, score, weight, user = (np.array(column) for column in zip(*rows, strict=True))
    return label.astype(float), score.astype(float), weight.astype(float), user.astype(np.uint64)


@settings(max_examples=200)
@given(ROWS)
def test_auc_equals_sklearn_with_ties_and_weights(rows):
    label, score, weight, _ = columns(rows)
    if len(set(label)) < 2:
        assert np.isnan(auc(label, score, weight))
    else:
        assert auc(label, score, weight) == pytest.approx(reference.roc_auc_score(label, score, sample_weight=weight))


@settings(max_examples=200)
@given(ROWS)
def test_gauc_equals_the_loop_over_users(rows):
    label, score, weight, user = columns(rows)
    values, masses = [], []
    for one in np.unique(user):
        inside = user == one
        if len(set(label[inside])) == 2:
            values.append(reference.roc_auc_score(label[inside], score[inside], sample_weight=weight[inside]))
            masses.append(weight[inside].sum())
    result = gauc(label, score, weight, user)
    if values:
        assert result == pytest.approx(np.average(values, weights=masses))
    else:
        assert np.isnan(result)


@given(ROWS)
def test_log_loss_equals_sklearn(rows):
    label, score, weight, _ = columns(rows)
    expected = reference.log_loss(label, score, sample_weight=weight, labels=[0, 1])
    assert log_loss(label, score, weight) == pytest.approx(expected)


def test_log_loss_of_certainty_is_finite():
    assert np.isfinite(log_loss(np.array([1.0]), np.array([0.0]), np.ones(1)))


def test_normalised_entropy_of_the_mean_is_one():
    label = np.array([1.0, 0, 0, 0])
    assert normalised_entropy(label, np.full(4, 0.25), np.ones(4)) == pytest.approx(1)
    assert np.isnan(normalised_entropy(np.ones(3), np.full(3, 0.9), np.ones(3)))


def test_pcoc_weighs_samples():
    label, score = np.array([1.0, 0.0]), np.array([0.5, 0.25])
    assert pcoc(label, score, np.array([1.0, 2.0])) == pytest.approx(1.0)
    assert np.isnan(pcoc(np.zeros(2), score, np.ones(2)))


def test_calibration_error_of_known_groups():
    score = np.repeat([0.2, 0.8], 100)
    label = np.concatenate([np.arange(100) < 30, np.arange(100) < 80]).astype(float)
    assert calibration_error(label, score, np.ones(200)) == pytest.approx(0.05)


def test_weights_act_like_repetitions(random):
    label = (random.random(300) < 0.3).astype(float)
    score, user = random.random(300).round(2), random.integers(0, 20, 300).astype(np.uint64)
    times = random.integers(1, 4, 300)
    weighted = measure(label, score, times.astype(float), user)
    repeated = measure(
        *(np.repeat(column, times) for column in (label, score)), np.ones(times.sum()), np.repeat(user, times)
    )
    for name in ("auc", "gauc", "log_loss", "ne", "pcoc", "ece"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name)), name


def test_immature_labels_take_no_part():
    label = np.array([1.0, 0.0, np.nan])
    result = measure(label, np.array([0.9, 0.1, 0.0]), np.ones(3), np.array([1, 1, 1], np.uint64))
    assert (result.rows, result.positives, result.auc) == (2, 1, 1.0)


def test_nothing_mature_is_undefined_not_an_error():
    result = measure(np.array([np.nan]), np.array([0.5]), np.ones(1), np.array([1], np.uint64))
    assert result.rows == 0
    assert all(np.isnan(getattr(result, name)) for name in ("auc", "gauc", "log_loss", "ne", "pcoc", "ece"))
