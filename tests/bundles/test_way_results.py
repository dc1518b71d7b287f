"""What a way of serving must pass."""

import numpy as np
import pytest

from bowerbird.bundles.way_results import compare_scores, kendall


def test_kendall_is_the_share_of_agreeing_pairs():
    first = np.array([0.1, 0.2, 0.3, 0.4])
    assert kendall(first, 2 * first) == pytest.approx(1.0)
    assert kendall(first, -first) == pytest.approx(-1.0)
    assert kendall(first, np.array([0.1, 0.2, 0.4, 0.3])) == pytest.approx(4 / 6)
    assert kendall(np.ones(4), np.ones(4)) == 1.0 and kendall(first, np.ones(4)) == 0.0


@pytest.mark.parametrize(
    ("factor", "auc", "passed"), [(1.0, 0.7, True), (1.0, 0.6998, False), (1.002, 0.7, False), (0.9995, 0.70005, True)]
)
def test_auc_and_calibration_must_stay(factor, auc, passed):
    eager = np.linspace(0.01, 0.5, 50)
    assert compare_scores("click", eager, factor * eager, 0.7, auc).passed is passed


def test_an_undefined_auc_is_said_to_be_so():
    result = compare_scores("click", np.ones(3), np.ones(3), float("nan"), float("nan"))
    assert result.auc is None and result.passed
