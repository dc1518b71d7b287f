"""What a way of serving must pass."""

import numpy as np
import pytest

from bowerbird.bundles.way_results import LEAST_OF_A_KIND, Change, WayTask, is_exact, judged, kendall

NONE = Change(0.0, -1e-6, 1e-6)


def task(**more) -> WayTask:
    values = {
        "auc": NONE, "calibration": NONE, "kendall": 1.0, "largest": 1e-3,
        "positives": LEAST_OF_A_KIND, "negatives": LEAST_OF_A_KIND,
    }  # fmt: skip
    return WayTask("click", **(values | more))


def test_kendall_is_the_share_of_agreeing_pairs():
    first = np.array([0.1, 0.2, 0.3, 0.4])
    assert kendall(first, 2 * first) == pytest.approx(1.0)
    assert kendall(first, -first) == pytest.approx(-1.0)
    assert kendall(first, np.array([0.1, 0.2, 0.4, 0.3])) == pytest.approx(4 / 6)
    assert kendall(np.ones(4), np.ones(4)) == 1.0 and kendall(first, np.ones(4)) == 0.0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"auc": Change(5e-5, -2e-5, 9e-5)}, ""),
        ({"auc": Change(5e-5, -2e-5, 2e-4)}, "AUC of click changes by"),
        ({"auc": Change(None, None, None)}, "AUC of click changes by undefined"),
        ({"calibration": Change(-9e-4, -1.1e-3, -7e-4)}, "the mean of click changes by"),
        ({"positives": LEAST_OF_A_KIND - 1}, "too few"),
        ({"negatives": 0}, "too few"),
    ],
)
def test_fewer_bits_need_an_interval_that_lies_within_the_limits(changed, reason):
    result = judged("native.int8", [task(), task(**changed)])
    assert result.passed is not bool(reason)
    assert reason in result.note


def test_float32_needs_the_same_probabilities_and_nothing_else():
    few = {"auc": Change(None, None, None), "positives": 1, "negatives": 1}
    assert judged("native.fp32", [task(largest=1e-6, **few)]).passed
    assert "off" in judged("native.fp32", [task(largest=2e-5)]).note


def test_which_ways_are_exact():
    assert [is_exact(way) for way in ("torch.fp32", "native.fp32", "lightgbm", "torch.bf16", "native.int8")] == [
        True, True, True, False, False,
    ]  # fmt: skip
