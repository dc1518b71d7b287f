"""The native hidden layer is its NumPy twin and PyTorch's own modules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bowerbird import _native
from bowerbird.kernels import hidden as twin
from bowerbird.models.hidden import HiddenActivation

shapes = st.tuples(st.integers(1, 200), st.integers(1, 70))


def values_of(shape, seed):
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * random.uniform(0.1, 5) + random.normal()).astype(np.float32)


@settings(max_examples=60)
@given(shapes, st.sampled_from([1.0, 0.9, 0.6, 0.1]), st.integers(0, 2**62), st.booleans(), st.integers(1, 3))
def test_forward_is_the_twin(shape, keep, seed, moved, threads):
    x = values_of(shape, seed)
    scale, shift = (values_of(shape[1], 1), values_of(shape[1], 2)) if moved else (None, None)
    y = np.empty_like(x)
    _native.hidden_forward(x, y, scale, shift, keep, seed, threads)
    assert np.array_equal(y, twin.hidden_forward(x, scale, shift, keep, seed))


@settings(max_examples=60)
@given(shapes, st.sampled_from([1.0, 0.7]), st.integers(0, 2**62), st.integers(1, 3))
def test_backward_and_moments_are_the_twin(shape, keep, seed, threads):
    x, gradient, weight = values_of(shape, seed), values_of(shape, seed + 1), values_of(shape[1], seed + 2)
    mean, variance = np.empty_like(weight), np.empty_like(weight)
    _native.column_moments(x, mean, variance, threads)
    assert np.allclose(mean, x.mean(axis=0, dtype=np.float64), atol=1e-5)
    assert np.allclose(variance, x.var(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-5)
    inverse = (1 / np.sqrt(variance + 0.1)).astype(np.float32)
    y = np.empty_like(x)
    _native.hidden_forward(x, y, weight, gradient[0], keep, seed, threads)
    found = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    _native.hidden_backward(x, y, gradient, found[0], mean, inverse, weight, found[1], found[2], keep, threads)
    for left, right in zip(found, twin.hidden_backward(x, y, gradient, mean, inverse, weight, keep), strict=True):
        assert np.allclose(left, right, rtol=1e-3, atol=1e-3 * max(1.0, float(np.abs(right).max())))


def test_threads_do_not_change_a_bit():
    x, gradient = values_of((1000, 33), 0), values_of((1000, 33), 1)
    results = []
    for threads in (1, 2, 5):
        mean, variance, weight, bias = (np.empty(33, np.float32) for _ in range(4))
        y, back = np.empty_like(x), np.empty_like(x)
        _native.column_moments(x, mean, variance, threads)
        _native.hidden_forward(x, y, mean, variance, 0.5, 9, threads)
        _native.hidden_backward(x, y, gradient, back, mean, variance, variance, weight, bias, 0.5, threads)
        results.append(b"".join(part.tobytes() for part in (mean, variance, y, back, weight, bias)))
    assert results[0] == results[1] == results[2]


def test_dropout_keeps_its_share_everywhere():
    kept = twin.kept(4096, 400, 0.6, 12345)
    deviation = np.sqrt(0.24)
    assert abs(kept.mean() - 0.6) < 4 * deviation / np.sqrt(kept.size)
    for axis, count in ((0, 4096), (1, 400)):
        spread = kept.mean(axis=axis).std() / (deviation / np.sqrt(count))
        assert 0.85 < spread < 1.15
    assert abs(np.corrcoef(kept[:, 0], kept[:, 1])[0, 1]) < 0.06
    assert abs(np.corrcoef(kept[0], kept[1])[0, 1]) < 0.2
    assert (twin.kept(4096, 400, 0.6, 12346) != kept).mean() == pytest.approx(0.48, abs=0.01)


def plain(width, batch_norm):
    return nn.Sequential(*([nn.BatchNorm1d(width)] if batch_norm else []), nn.ReLU())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_module_is_pytorchs(batch_norm, dtype):
    torch.manual_seed(0)
    ours, theirs = HiddenActivation(40, batch_norm=batch_norm), plain(40, batch_norm)
    values, gradient = (torch.randn(300, 40) * 3 + 1).to(dtype), torch.randn(300, 40)
    left, right = values.clone().requires_grad_(), values.float().requires_grad_()
    result, expected = ours(left), theirs(right)
    result.backward(gradient.to(dtype))
    expected.backward(gradient.to(dtype).float())
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    assert result.dtype == dtype
    assert torch.allclose(result.float(), expected, atol=tolerance)
    assert torch.allclose(left.grad.float(), right.grad, atol=tolerance)
    if batch_norm:
        assert torch.allclose(ours.norm.running_var, theirs[0].running_var, atol=1e-4)
        assert torch.allclose(ours.norm.running_mean, theirs[0].running_mean, atol=1e-4)
        assert torch.allclose(ours.norm.weight.grad, theirs[0].weight.grad, atol=20 * tolerance)
        ours.eval(), theirs.eval()
        assert torch.allclose(ours(values.float()), theirs(values.float()), atol=1e-4)


def test_gradients_are_the_numerical_ones():
    torch.manual_seed(1)
    layer = HiddenActivation(3, batch_norm=True)
    values = torch.randn(6, 3, requires_grad=True)
    weights = torch.randn(6, 3)
    (layer(values) * weights).sum().backward()
    double = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()).double()
    assert torch.autograd.gradcheck(lambda x: double(x), values.detach().double().requires_grad_())
    again = values.detach().double().requires_grad_()
    (double(again) * weights).sum().backward()
    assert torch.allclose(values.grad.double(), again.grad, atol=1e-5)


def test_a_seed_repeats_dropout_and_evaluation_has_none():
    layer, values = HiddenActivation(50, dropout=0.5), torch.ones(20, 50)
    torch.manual_seed(3)
    first, second = layer(values), layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first) and not torch.equal(first, second)
    assert torch.equal(layer.eval()(values), values)


def test_what_does_not_fit_is_refused():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="keep"):
        _native.hidden_forward(x, np.empty_like(x), None, None, 0.0, 0)
    with pytest.raises(ValueError, match="shape or type"):
        _native.hidden_forward(x, np.empty((3, 2), np.float32), None, None, 1.0, 0)
    with pytest.raises(ValueError, match="width"):
        _native.hidden_forward(x, np.empty_like(x), np.ones(2, np.float32), np.ones(2, np.float32), 1.0, 0)
