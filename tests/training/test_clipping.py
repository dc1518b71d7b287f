"""Gradients are clipped as PyTorch clips them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bowerbird import _native
from bowerbird.training.clipping import clip_gradients, gradient_norm


def parameters_of(shapes, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    found = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for each in found:
        each.grad = torch.randn(each.shape, generator=generator, dtype=dtype)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5), st.integers(0, 2**30), st.sampled_from([0.5, 1e4]))
def test_clipped_as_pytorch_clips(sizes, seed, most):
    ours, theirs = parameters_of(sizes, seed), parameters_of(sizes, seed)
    clip_gradients(ours, most)
    torch.nn.utils.clip_grad_norm_(theirs, most)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("strange", ["double", "transposed", "alone"])
def test_other_gradients_are_clipped_too(strange):
    parameters = parameters_of([(30, 20), (7,)], 1, torch.float64 if strange == "double" else torch.float32)
    if strange == "transposed":
        parameters[0].grad = parameters[0].grad.t().contiguous().t()
    parameters.append(nn.Parameter(torch.zeros(3)))  # it has no gradient
    expected = torch.cat([each.grad.flatten().double() for each in parameters[:2]]).norm()
    assert gradient_norm([each.grad for each in parameters[:2]]) == pytest.approx(expected.item(), rel=1e-5)
    clip_gradients(parameters, 1.0)
    assert gradient_norm([each.grad for each in parameters[:2]]) == pytest.approx(1.0, rel=1e-4)


def test_nothing_is_clipped_where_no_norm_is_set_and_none_is_no_number():
    parameters = parameters_of([5], 1)
    before = parameters[0].grad.clone()
    clip_gradients(parameters, 0.0)
    assert torch.equal(parameters[0].grad, before)
    assert gradient_norm([]) == 0.0
    parameters[0].grad[2] = torch.nan
    clip_gradients(parameters, 1.0)
    assert parameters[0].grad.isnan().all()


def test_threads_do_not_change_a_norms_bits():
    values = [torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.ones(3, 5)]
    assert len({_native.norm(values, threads) for threads in (1, 2, 5)}) == 1


def test_an_array_that_is_none_is_refused():
    with pytest.raises(TypeError):
        _native.norm([torch.ones(3, dtype=torch.float64)], 1)
