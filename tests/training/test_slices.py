import numpy as np
import pytest

from bowerbird.bundles.calibrate import logistic
from bowerbird.training.quality.slices import (
    USER_ACTIVITY,
    USER_POSITION,
    activity_columns,
    category_column,
    number_column,
    worst_slices,
)


def drawn(seed, spoil=lambda random, logit, f: logit, rows=6000, users=300):
    """Return labels that are as predicted, but for users' tastes and what ``spoil`` does, and six columns of slices."""
    random = np.random.default_rng(seed)
    user = random.integers(0, users, rows).astype(np.uint64)
    taste = 0.7 * random.normal(size=users)
    logit = random.normal(size=rows) * 1.2 - 1
    f, g = random.integers(0, 8, rows).astype(np.uint64), random.integers(0, 100, rows).astype(np.uint64)
    town = random.integers(0, 6, users).astype(np.uint64)[user.astype(int)]
    truth = spoil(random, logit + taste[user.astype(int)], f)
    label = (random.random(rows) < logistic(truth)).astype(float)
    columns = {
        "f": category_column(f),
        "g": category_column(g),
        "town": category_column(town),
        "number": number_column(random.normal(size=rows).astype(np.float32)),
        **activity_columns(user, np.arange(rows)),
    }
    return label, logistic(logit), np.ones(rows), user, columns


def test_noise_lists_nothing():
    reports = [worst_slices(*drawn(seed)) for seed in range(20)]
    assert all(report.examined >= 20 for report in reports)
    assert sum(bool(report.worst) for report in reports) <= 1


def test_a_slice_without_ranking_and_one_without_calibration_are_found():
    def spoil(random, logit, f):
        shuffled = np.where(f == 3, random.permutation(logit), logit)
        return np.where(f == 5, shuffled + 0.9, shuffled)

    for seed in range(5):
        worst = worst_slices(*drawn(seed, spoil)).worst
        first = {one.worse: one for one in reversed(worst)}
        auc, pcoc = first["auc"], first["pcoc"]
        assert (auc.feature, auc.value) == ("f", f"{3:016x}")
        assert (pcoc.feature, pcoc.value) == ("f", f"{5:016x}")
        assert auc.auc.high < 0.6 and pcoc.pcoc.high < 0.85
        assert auc.promised_auc > auc.auc.high
        assert max(auc.chance, pcoc.chance) < 1e-3
        assert auc.users <= auc.rows and auc.harm == pytest.approx(auc.gap * auc.rows / 6000)


def test_a_slice_of_like_scores_is_not_bad_for_its_lower_auc():
    label, score, weight, user, _ = drawn(2)
    columns = {"score": number_column(score.astype(np.float32))}
    report = worst_slices(label, score, weight, user, columns)
    assert report.examined == 5 and not [one for one in report.worst if one.worse == "auc"]


def test_immature_labels_take_no_part_and_one_class_has_no_slices():
    label, score, weight, user, columns = drawn(1)
    some = label.copy()
    some[::2] = np.nan
    report = worst_slices(some, score, weight, user, columns)
    assert all(one.rows <= 3000 for one in report.worst)
    assert worst_slices(np.zeros(6000), score, weight, user, columns).examined == 0


def test_number_buckets_hold_a_fifth_each_and_name_what_is_unknown():
    values = np.concatenate([np.arange(100), [np.nan] * 7]).astype(np.float32)
    names, counts = np.unique(number_column(values), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True))["unknown"] == 7
    assert sorted(counts.tolist()) == [7, 20, 20, 20, 20, 20]
    assert "≤ 19.8" in names and "> 79.2" in names
    assert np.unique(number_column(np.full(5, np.nan, np.float32))).tolist() == ["unknown"]
    assert len(np.unique(number_column(np.zeros(9, np.float32)))) == 1


def test_rare_keys_are_in_no_slice():
    keys = np.repeat(np.arange(40), np.arange(40, 0, -1)).astype(np.uint64)
    names = category_column(keys)
    assert len(np.unique(names)) == 26
    assert (names[keys == 0] == f"{0:016x}").all() and (names[keys == 39] == "").all()


def test_activity_counts_a_user_s_samples_in_time():
    user = np.array([7, 9, 7, 7], np.uint64)
    columns = activity_columns(user, np.array([30, 5, 10, 20]))
    assert columns[USER_ACTIVITY].tolist() == ["2 to 5", "1", "2 to 5", "2 to 5"]
    assert columns[USER_POSITION].tolist() == ["2 to 5", "1", "1", "2 to 5"]
