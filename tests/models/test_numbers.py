import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.models.numbers import NumberEmbedding, PiecewiseNumbers, StandardNumbers, quantile_edges

VALUES = st.lists(
    st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.just(float("inf")), min_size=1, max_size=60
)


@given(VALUES, VALUES)
def test_piecewise_parts_lie_between_0_and_1_and_do_not_fall(fitted, asked):
    module = PiecewiseNumbers(("x",), 8)
    module.fit({"x": np.array(fitted, np.float32)})
    ordered = np.sort(np.array(asked, np.float32))
    parts = module({"x": torch.from_numpy(ordered)})[:, 0]
    assert torch.isfinite(parts).all()
    assert ((parts >= 0) & (parts <= 1)).all()
    known = parts[~torch.isnan(torch.from_numpy(ordered))]
    assert (known[1:, :-1] >= known[:-1, :-1]).all()
    assert torch.equal(parts[:, -1], torch.isnan(torch.from_numpy(ordered)).float())


@given(VALUES, VALUES)
def test_standard_numbers_are_finite_whatever_is_asked(fitted, asked):
    module = StandardNumbers(("x",))
    module.fit({"x": np.array(fitted, np.float32)})
    result = module({"x": torch.tensor(asked)})
    assert torch.isfinite(result).all()
    assert result[:, 0].abs().max() <= module.limit


@given(VALUES, VALUES)
def test_standard_numbers_are_the_same_in_training(first, second):
    module = StandardNumbers(("x", "y"))
    module.fit({"x": np.array(first, np.float32), "y": np.array(second, np.float32)})
    features = {"x": torch.tensor(first).repeat(4, 1), "y": torch.tensor(first).flip(0).repeat(4, 1)}
    before = {name: values.clone() for name, values in features.items()}
    trained, served = module.train()(features), module.eval()(features)
    assert torch.equal(trained, served)
    assert all(torch.equal(values.isnan(), before[name].isnan()) for name, values in features.items())


def test_piecewise_edges_are_quantiles():
    module = PiecewiseNumbers(("x",), 4)
    module.fit({"x": np.arange(101, dtype=np.float32)})
    parts = module({"x": torch.tensor([0.0, 12.5, 50.0, 100.0, 1e9])})[:, 0, :-1]
    expected = torch.tensor([[0, 0, 0, 0], [0.5, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    assert torch.allclose(parts, expected)


def test_edges_of_few_distinct_values_are_merged():
    assert quantile_edges(np.array([0, 0, 0, 0, 5], np.float32), 4).tolist() == [0, 5]
    assert quantile_edges(np.array([3, 3], np.float32), 4).tolist() == [3]
    assert quantile_edges(np.array([np.nan], np.float32), 4).tolist() == []


def test_standardised_values_have_unit_moments():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    module = StandardNumbers(("x",))
    module.fit({"x": values})
    result = module({"x": torch.from_numpy(values)})[:, 0]
    assert float(result.mean()) == pytest.approx(0, abs=1e-4)
    assert float(result.std()) == pytest.approx(1, abs=1e-3)


def test_each_number_has_its_own_embedding():
    module = NumberEmbedding(("x", "y"), 4, 3)
    module.pieces.fit({name: np.arange(10, dtype=np.float32) for name in ("x", "y")})
    features = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([1.0, float("nan")])}
    result = module(features)
    assert result.shape == (2, 2, 3)
    changed = module({**features, "y": torch.tensor([5.0, 5.0])})
    assert torch.equal(result[:, 0], changed[:, 0])
    assert not torch.allclose(result[:, 1], changed[:, 1])
