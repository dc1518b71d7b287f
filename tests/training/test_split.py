import pytest

from bowerbird.errors import InputError
from bowerbird.training.batches.split import DateRange, choose_split

DAYS = {"2026-01-01": 100, "2026-01-02": 100, "2026-01-03": 100, "2026-01-04": 5, "2026-01-05": 20}


def test_validation_is_the_latest_tenth():
    split = choose_split(DAYS)
    assert split.validation == DateRange("2026-01-03", "2026-01-05")
    assert split.train == DateRange("2026-01-01", "2026-01-02")
    assert split.test is None


def test_validation_precedes_the_test_range():
    split = choose_split(DAYS, test="2026-01-04:2026-01-05")
    assert split.validation == DateRange("2026-01-03", "2026-01-03")
    assert split.train == DateRange("2026-01-01", "2026-01-02")


def test_since_and_until_bound_training():
    split = choose_split(DAYS, since="2026-01-02", until="2026-01-02", validation="2026-01-04", test="2026-01-05")
    assert split.train == DateRange("2026-01-02", "2026-01-02")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": "2026-01-09"}, "No samples in the validation range"),
        ({"validation": "2026-01-03", "test": "2026-01-03"}, "does not come after"),
        ({"validation": "2026-01-03", "until": "2026-01-03"}, "does not come after"),
        ({"validation": "yesterday"}, "not a date"),
        ({"validation": "2026-01-01"}, "since is ''"),
        ({"since": "2027-01-01", "until": "2027-01-02"}, "does not come after"),
    ],
)
def test_impossible_splits_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        choose_split(DAYS, **options)


def test_one_day_is_too_few():
    with pytest.raises(InputError, match="too few"):
        choose_split({"2026-01-01": 100})
