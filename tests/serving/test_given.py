import numpy as np
import pytest

from bowerbird.errors import InputError
from bowerbird.monitoring.coverage import CoverageCounter
from bowerbird.serving.given import GivenFeatures
from tests.training.vectors import WIDTH, draw, plan_with_vector


def test_vectors_may_be_given_for_all_candidates_or_for_one():
    block = draw(4)
    before = block.vectors["embedding"].copy()
    ones, twos = [1.0] * WIDTH, [2] * WIDTH
    laid = GivenFeatures(plan_with_vector()).apply(block, {"embedding": ones}, {2: {"embedding": twos}}, 4)
    assert laid.vectors["embedding"].tolist() == [ones, ones, [2.0] * WIDTH, ones]
    assert laid.vectors["embedding"].dtype == np.float32
    only = GivenFeatures(plan_with_vector()).apply(block, {}, {0: {"embedding": None}}, 4).vectors["embedding"]
    assert np.isnan(only[0]).all()
    np.testing.assert_array_equal(only[1:], before[1:])
    np.testing.assert_array_equal(block.vectors["embedding"], before)


@pytest.mark.parametrize(
    "value", [[1.0] * (WIDTH - 1), "text", 3.0, [None] * WIDTH, [True] * WIDTH, [1e300] * WIDTH, [10**400] * WIDTH]
)
def test_what_is_no_vector_of_the_plan_is_refused(value):
    with pytest.raises(InputError, match="Feature 'embedding' is given as"):
        GivenFeatures(plan_with_vector()).apply(draw(2), {"embedding": value}, {}, 2)


def test_vectors_leave_the_rest_as_it_was():
    block = draw(3)
    laid = GivenFeatures(plan_with_vector()).apply(block, {"rate": 0.5}, {}, 3)
    assert laid.numbers["rate"].tolist() == [0.5] * 3
    assert laid.vectors["embedding"] is block.vectors["embedding"]


def test_coverage_counts_known_vectors():
    counter = CoverageCounter()
    counter.add(draw(8))
    found = {each.feature: each for each in counter.report()}["embedding"]
    assert (found.values, found.present, found.mean) == (8, 0.75, None)
