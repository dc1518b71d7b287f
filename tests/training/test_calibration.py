import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from bowerbird.bundles.calibrate import (
    Identity,
    Isotonic,
    Monotone,
    Platt,
    PlattByField,
    calibrate,
    calibrations_from_json,
    calibrations_to_json,
    field_of,
    logistic,
)
from bowerbird.errors import InputError
from bowerbird.training.batches.down_sampling import population_weight
from bowerbird.training.calibration.by_field import fit_platt_by_field
from bowerbird.training.calibration.fit import fit_calibration
from bowerbird.training.calibration.monotone import fit_monotone
from bowerbird.training.calibration.overall import fit_isotonic, fit_platt, fit_shift, pool_adjacent_violators
from bowerbird.training.quality.metrics import field_calibration_error, log_loss, pcoc


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


FIELD = np.arange(12).astype(np.uint64) * np.uint64(977) + np.uint64(2**63)


def by_field(random, rows=12_000, spread=0.6, tilt=0.0):
    """Return logits that are right but for a shift and a scale by the value of ``f``; ``g`` has no part in it."""
    effects = np.random.default_rng(5)
    shift, scale = spread * effects.normal(size=12), np.exp(tilt * effects.normal(size=12))
    logit, place = random.normal(size=rows) * 1.2 - 1, random.integers(0, 12, rows)
    label = (random.random(rows) < logistic(scale[place] * logit + shift[place])).astype(float)
    user = random.integers(0, rows // 20, rows).astype(np.uint64)
    return logit, label, np.ones(rows), user, {"f": FIELD[place], "g": random.integers(0, 30, rows).astype(np.uint64)}


def fitted_loss(calibration, rows):
    logit, label, weight, _, categories = rows
    return log_loss(label, calibrate(calibration, logit, categories), weight)


def test_a_field_that_shifts_is_found_and_better_than_any_global_calibration(random):
    *columns, categories = by_field(random)
    chosen = fit_calibration(*columns, categories=categories)
    assert isinstance(chosen, PlattByField) and chosen.field == "f"
    truth = 0.6 * np.random.default_rng(5).normal(size=12)
    ours = np.array(chosen.shifts) + chosen.intercept
    assert np.abs(ours - truth).max() < 0.3 and np.corrcoef(ours, truth)[0, 1] > 0.97
    fresh = by_field(np.random.default_rng(99), rows=40_000)
    assert fitted_loss(chosen, fresh) < fitted_loss(fit_calibration(*columns), fresh) - 0.01
    scores = calibrate(chosen, fresh[0], fresh[4])
    flat = calibrate(fit_calibration(*columns), fresh[0])
    errors = [field_calibration_error(fresh[1], score, fresh[2], fresh[4]["f"]) for score in (scores, flat)]
    assert errors[0] < 0.3 * errors[1]


def test_a_field_that_scales_gets_the_monotone_network(random):
    *columns, categories = by_field(random, tilt=0.5)
    chosen = fit_calibration(*columns, categories=categories)
    assert isinstance(chosen, Monotone) and chosen.field == "f"
    fresh = by_field(np.random.default_rng(99), rows=40_000, tilt=0.5)
    shifted = fit_calibration(*columns, categories=categories, method="platt:f")
    assert fitted_loss(chosen, fresh) < fitted_loss(shifted, fresh) - 0.005


def test_fields_that_do_not_differ_are_not_chosen():
    for seed in range(8):
        random = np.random.default_rng(seed)
        logit, label, weight, user = drawn(random, logistic, rows=4000)
        fields = {f"f{size}": random.integers(0, size, 4000).astype(np.uint64) for size in (2, 10, 60)}
        assert isinstance(fit_calibration(logit, label, weight, user % np.uint64(200), categories=fields), Platt)


def test_keys_that_do_not_differ_are_shrunk_to_nothing(random):
    logit, label, weight, _ = drawn(random, logistic, rows=6000)
    keys = random.integers(0, 50, 6000).astype(np.uint64)
    fitted = fit_platt_by_field(logit, label, weight, keys, "f")
    alone = [fit_platt(logit[keys == key], label[keys == key], weight[keys == key]).intercept for key in range(50)]
    assert np.std(fitted.shifts) < 0.2 * np.std(alone)


def test_a_rare_key_stays_near_the_global_calibration_and_an_unknown_one_has_it(random):
    logit, label, weight, _, categories = by_field(random)
    keys = categories["f"].copy()
    keys[:25], label[:20] = 7, 1.0
    fitted = fit_platt_by_field(logit, label, weight, keys, "f")
    assert FIELD[0] in fitted.keys and 7 in fitted.keys
    own = fit_shift(fitted.slope * logit[:25] + fitted.intercept, label[:25], weight[:25]).intercept
    assert 0 < fitted.shifts[fitted.keys.index(7)] < 0.9 * own
    plain = Platt(fitted.slope, fitted.intercept)
    unknown = {"f": np.array([12345], np.uint64)}
    assert np.array_equal(calibrate(fitted, logit, unknown), calibrate(plain, logit))


@pytest.mark.parametrize("bend", [lambda x: 0.5 * x, lambda x: np.where(x > 0, 2 * x, 0.3 * x) - 0.5])
def test_the_monotone_curve_recovers_a_bend(random, bend):
    logit, label, weight, _ = drawn(random, lambda x: logistic(bend(x)), rows=40_000)
    fitted = fit_monotone(logit, label, weight)
    at = np.linspace(-3, 3, 25)
    assert np.abs(calibrate(fitted, at) - logistic(bend(at))).max() < 0.03


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(30, 300), st.floats(0.02, 0.98), st.booleans())
def test_the_monotone_network_rises_for_every_key_whatever_the_labels(seed, rows, rate, ties):
    random = np.random.default_rng(seed)
    logit = random.normal(size=rows).round(1 if ties else 9) * 3
    label = (random.random(rows) < rate).astype(float)
    keys = random.integers(0, 3, rows).astype(np.uint64)
    fitted = fit_monotone(logit, label, random.random(rows) + 0.1, keys, "f")
    at = np.sort(random.normal(size=50) * 20)
    for key in (0, 1, 2, 9):
        score = calibrate(fitted, at, {"f": np.full(50, key, np.uint64)})
        assert np.all(np.diff(score) >= 0) and np.isfinite(score).all()


def test_a_method_can_be_forced_and_a_wrong_one_is_named(random):
    *columns, categories = by_field(random, rows=3000)
    kinds = {"identity": Identity, "shift": Platt, "platt": Platt, "isotonic": Isotonic, "monotone": Monotone}
    for method, kind in {**kinds, "platt:g": PlattByField, "monotone:g": Monotone}.items():
        chosen = fit_calibration(*columns, categories=categories, method=method)
        assert isinstance(chosen, kind) and field_of(chosen) == ("g" if ":" in method else "")
    with pytest.raises(InputError, match=r"no calibration 'plat'"):
        fit_calibration(*columns, categories=categories, method="plat")
    with pytest.raises(InputError, match=r"category feature 'h'.*f, g"):
        fit_calibration(*columns, categories=categories, method="platt:h")


def test_left_out_negatives_are_counted_again(random):
    logit, label, weight, user = drawn(random, lambda x: logistic(x - 2), rows=60_000)
    kept = (label == 1) | (random.random(len(label)) < 0.1)
    trained = logit[kept] - 2 - np.log(0.1)
    corrected = population_weight({"click": label[kept]}, weight[kept].astype(np.float32), 0.1)
    fitted = fit_calibration(trained, label[kept], corrected, user[kept], trained_weight=weight[kept])
    assert pcoc(label, calibrate(fitted, logit - 2 - np.log(0.1)), weight) == pytest.approx(1, abs=0.03)
    few = slice(0, 300)
    sparse = np.where(np.arange(300) < 5, 1.0, 0.0)
    ones = np.ones(300, np.float32)
    known = fit_calibration(
        trained[few], sparse, population_weight({"a": sparse}, ones, 0.1), user[:300], trained_weight=ones
    )
    assert isinstance(known, Platt) and known.slope == 1
    assert known.intercept == pytest.approx(np.log(0.1))


def test_a_row_with_any_label_was_not_left_out():
    labels = {"click": np.array([1.0, 0.0, 0.0]), "order": np.array([0.0, 0.0, np.nan])}
    weight = population_weight(labels, np.ones(3, np.float32), 0.25)
    assert weight.tolist() == [1, 4, 4] and weight.dtype == np.float32
    with pytest.raises(InputError, match="negative rate of 0"):
        population_weight(labels, weight, 0.0)


def test_every_kind_scores_to_the_same_bits_after_a_round_trip(random):
    logit, label, weight, _, categories = by_field(random, rows=4000)
    every = {
        "platt": fit_platt(logit, label, weight),
        "isotonic": fit_isotonic(logit, label, weight),
        "monotone": fit_monotone(logit, label, weight),
        "platt:f": fit_platt_by_field(logit, label, weight, categories["f"], "f"),
        "monotone:f": fit_monotone(logit, label, weight, categories["f"], "f"),
    }
    read = calibrations_from_json(calibrations_to_json(every))
    assert read == every
    for name, calibration in every.items():
        assert np.array_equal(calibrate(read[name], logit, categories), calibrate(calibration, logit, categories))


def test_files_of_earlier_versions_are_read():
    data = b'{"a":{"type":"identity"},"b":{"type":"platt","slope":2.0,"intercept":0.5}}'
    assert calibrations_from_json(data) == {"a": Identity(), "b": Platt(2.0, 0.5)}


def test_a_field_of_one_row_is_that_of_all_candidates_and_an_absent_one_is_named():
    calibration = PlattByField("topic", 1.0, 0.0, [3, 2**64 - 1], [0.5, -0.5])
    logits = np.zeros(3, np.float32)
    shared = calibrate(calibration, logits, {"topic": np.array([2**64 - 1], np.uint64)})
    assert np.array_equal(shared, logistic(np.full(3, -0.5)))
    each = calibrate(calibration, logits, {"topic": np.array([3, 4, 2**64 - 1], np.uint64)})
    assert np.array_equal(each, logistic(np.array([0.5, 0.0, -0.5])))
    for categories in (None, {"user": np.zeros(3, np.uint64)}):
        with pytest.raises(InputError, match="category feature 'topic'"):
            calibrate(calibration, logits, categories)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"platt_by_field","field":"a","slope":1,"intercept":0,"keys":[2,1],"shifts":[0,0]}',
        '{"type":"platt_by_field","field":"a","slope":1,"intercept":0,"keys":[1],"shifts":[]}',
        '{"type":"platt_by_field","field":"","slope":1,"intercept":0,"keys":[1],"shifts":[0]}',
        '{"type":"monotone","knots":[0,1],"values":[1,0]}',
        '{"type":"monotone","knots":[0],"values":[1]}',
        '{"type":"monotone","knots":[0,1],"values":[0,1],"field":"a","keys":[1],"scales":[-1],"shifts":[0]}',
    ],
)
def test_damaged_calibrations_are_refused(text):
    with pytest.raises(msgspec.ValidationError):
        calibrations_from_json(f'{{"click":{text}}}'.encode())
