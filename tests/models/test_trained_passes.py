"""Cross networks, heads and linear layers in training are plain PyTorch's, values and gradients."""

import pytest
import torch
from torch import nn

from bowerbird.models.layers import CrossNetwork, TaskHeads
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class PlainCrosses(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, first):
        crossed = first
        for layer in self.network.layers:
            crossed = first * layer(crossed) + crossed
        return crossed


def gradients_of(module, parameters, values, weights, dtype):
    inputs = [value.clone().requires_grad_() for value in values]
    for parameter in parameters:
        parameter.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        result = module(*inputs)
    (result.float() * weights).sum().backward()
    return result.detach().float(), [each.grad.float() for each in inputs], [each.grad for each in parameters]


def assert_same(left, right, tolerance):
    for found, expected in zip(left, right, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_cross_network_is_plain_pytorchs(layers, rank, dtype):
    torch.manual_seed(0)
    network = CrossNetwork(24, layers, rank)
    values, weights = [torch.randn(300, 24)], torch.randn(300, 24)
    found = gradients_of(network, list(network.parameters()), values, weights, dtype)
    expected = gradients_of(PlainCrosses(network), list(network.parameters()), values, weights, torch.float32)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], tolerance)
    network.eval()
    assert torch.allclose(network(values[0]), expected[0], atol=1e-4)


@pytest.mark.parametrize("part_type", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tasks", [1, 3])
def test_heads_over_parts_are_heads_over_all_of_them(tasks, part_type):
    torch.manual_seed(1)
    heads = TaskHeads(50, tuple(Task(f"task{number}") for number in range(tasks)))
    values, weights = [torch.randn(200, 17), torch.randn(200, 33).to(part_type)], torch.randn(200, tasks)
    stacked = lambda *parts: torch.stack(list(heads(*parts).values()), dim=1)  # noqa: E731
    plain = lambda *parts: heads.linear(torch.cat([part.float() for part in parts], dim=1))  # noqa: E731
    found = gradients_of(stacked, list(heads.parameters()), values, weights, torch.float32)
    expected = gradients_of(plain, list(heads.parameters()), values, weights, torch.float32)
    assert found[0].dtype == torch.float32
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], 1e-4)
    heads.eval()
    assert torch.allclose(stacked(*(part.float() for part in values)), expected[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 24])
@pytest.mark.parametrize("shape", [(300, 20), (40, 7, 20)])
def test_a_linear_layer_is_plain_pytorchs(shape, outputs, bias, dtype):
    torch.manual_seed(2)
    layer = Linear(shape[-1], outputs, bias=bias)
    plain = nn.Linear(shape[-1], outputs, bias=bias)
    plain.load_state_dict(layer.state_dict())
    values, weights = [torch.randn(shape)], torch.randn(*shape[:-1], outputs)
    found = gradients_of(layer, list(layer.parameters()), values, weights, dtype)
    expected = gradients_of(plain, list(plain.parameters()), values, weights, torch.float32)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], tolerance)
    layer.eval()
    assert torch.equal(layer(values[0]), plain(values[0]))


def test_a_linear_layer_of_inputs_without_gradients():
    layer = Linear(20, 24)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(50, 20)).float().sum().backward()
    assert layer.bias.grad is not None and torch.allclose(layer.bias.grad, torch.full((24,), 50.0))
