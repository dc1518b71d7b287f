"""Cross networks, heads, linear and hidden layers in training are plain PyTorch's, values and gradients."""

import pytest
import torch
from torch import nn

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.models.layers import MLP, CrossNetwork, TaskHeads
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear

NAMES = ("Narrow", "Tiled", "Network", "Layer", "Hidden")
PASSES = {name.lower(): f"_{name}Backward" for name in NAMES}


@pytest.fixture(params=["generic", "amx", "amx_emulated"])
def isa(request, monkeypatch):
    """Run a test on vectors, on the processor's tile registers and on imitated ones, as far as they are there."""
    monkeypatch.setenv("BOWERBIRD_ISA", request.param)
    try:
        _native.has_tiles()
    except ValueError:
        pytest.skip(f"no {request.param} here")
    return request.param


def native_pass(value):
    """Return the name of the last native pass that made a value, or an empty text."""
    node = value.grad_fn
    while node is not None:
        if node.name() in PASSES.values():
            return node.name()
        node = node.next_functions[0][0] if node.next_functions else None
    return ""


class PlainCrosses(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, first):
        crossed = first
        for layer in self.network.layers:
            crossed = first * layer(crossed) + crossed
        return crossed


def gradients_of(module, parameters, values, weights, dtype, by=None):
    """Return a module's result and gradients; ``by`` is the native pass that must have made it."""
    inputs = [value.clone().requires_grad_() for value in values]
    for parameter in parameters:
        parameter.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        result = module(*inputs)
    assert by is None or native_pass(result) == by
    (result.float() * weights).sum().backward()
    return result.detach(), [each.grad.float() for each in inputs], [each.grad for each in parameters]


def assert_same(left, right, tolerance):
    for found, expected in zip(left, right, strict=True):
        found, expected = found.float(), expected.float()
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_cross_network_is_plain_pytorchs(isa, layers, rank, dtype):
    torch.manual_seed(0)
    network = CrossNetwork(24, layers, rank)
    values, weights = [torch.randn(300, 24)], torch.randn(300, 24)
    whole = rank is None and dtype == torch.bfloat16 and isa != "generic"
    by = PASSES["network" if whole else "layer"]
    found = gradients_of(network, list(network.parameters()), values, weights, dtype, by)
    expected = gradients_of(PlainCrosses(network), list(network.parameters()), values, weights, torch.float32)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], tolerance)
    network.eval()
    assert torch.allclose(network(values[0]), expected[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("used", ["both", "crosses", "input"])
def test_what_reads_a_cross_networks_input_beside_it_has_its_gradients(isa, used, rank, dtype):
    torch.manual_seed(5)
    network = CrossNetwork(24, 2, rank)
    of_crosses, of_input = float(used != "input"), float(used != "crosses")

    def joined(first):
        crossed, again = network.with_input(first)
        return torch.cat([part for part, share in ((crossed, of_crosses), (again.square(), of_input)) if share], dim=1)

    def plain(first):
        return torch.cat([of_crosses * PlainCrosses(network)(first), of_input * first.square()], dim=1)

    values, weights = [torch.randn(300, 24)], torch.randn(300, 48)
    given = weights if used == "both" else weights[:, :24] if used == "crosses" else weights[:, 24:]
    found = gradients_of(joined, list(network.parameters()), values, given, dtype)
    expected = gradients_of(plain, list(network.parameters()), values, weights, torch.float32)
    pairs = zip(found[2], expected[2], strict=True)
    of_weights = [torch.zeros_like(plain) if own is None else own for own, plain in pairs]
    assert_same([*found[1], *of_weights], [*expected[1], *expected[2]], 1e-5 if dtype == torch.float32 else 0.03)


@pytest.mark.parametrize("part_type", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tasks", [1, 3])
def test_heads_over_parts_are_heads_over_all_of_them(tasks, part_type):
    torch.manual_seed(1)
    heads = TaskHeads(50, tuple(Task(f"task{number}") for number in range(tasks)))
    values, weights = [torch.randn(200, 17), torch.randn(200, 33).to(part_type)], torch.randn(200, tasks)
    stacked = lambda *parts: torch.stack(list(heads(*parts).values()), dim=1)  # noqa: E731
    plain = lambda *parts: heads.linear(torch.cat([part.float() for part in parts], dim=1))  # noqa: E731
    found = gradients_of(stacked, list(heads.parameters()), values, weights, torch.bfloat16, PASSES["narrow"])
    expected = gradients_of(plain, list(heads.parameters()), values, weights, torch.float32)
    assert found[0].dtype == torch.float32
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], 1e-4)
    heads.eval()
    assert torch.allclose(stacked(*(part.float() for part in values)), expected[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 24])
@pytest.mark.parametrize("shape", [(300, 20), (40, 7, 20)])
def test_a_linear_layer_is_plain_pytorchs(isa, shape, outputs, bias, dtype):
    torch.manual_seed(2)
    layer = Linear(shape[-1], outputs, bias=bias)
    plain = nn.Linear(shape[-1], outputs, bias=bias)
    plain.load_state_dict(layer.state_dict())
    values, weights = [torch.randn(shape)], torch.randn(*shape[:-1], outputs)
    tiled = dtype == torch.bfloat16 and isa != "generic"
    by = PASSES["narrow"] if outputs == 1 else PASSES["tiled"] if tiled else ""
    found = gradients_of(layer, list(layer.parameters()), values, weights, dtype, by)
    expected = gradients_of(plain, list(plain.parameters()), values, weights, torch.float32)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    assert_same([found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], tolerance)
    layer.eval()
    assert torch.equal(layer(values[0]), plain(values[0]))


def one_by_one(mlp):
    """Return an MLP's function, layer by layer."""

    def function(values):
        for layer in mlp:
            values = layer(values)
        return values

    return function


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(300, 20), (40, 7, 20)])
def test_an_mlp_is_its_layers_one_by_one(isa, shape, dropout, batch_norm):
    torch.manual_seed(5)
    mlp = MLP(shape[-1], (40, 33), dropout, batch_norm)
    values, weights = [torch.randn(shape)], torch.randn(*shape[:-1], 33)
    before = {name: value.clone() for name, value in mlp.named_buffers()}
    results = []
    for function, by in ((mlp, None if isa == "generic" else PASSES["hidden"]), (one_by_one(mlp), None)):
        for name, value in mlp.named_buffers():
            value.copy_(before[name])
        torch.manual_seed(6)
        found = gradients_of(function, list(mlp.parameters()), values, weights, torch.bfloat16, by)
        results.append([found[0], *found[1], *found[2], *(value.clone() for value in mlp.buffers()), torch.rand(3)])
    assert torch.equal(results[0][-1], results[1][-1])
    for found, expected in zip(*results, strict=True):
        off, scale = (found.float() - expected.float()).abs(), max(1.0, float(expected.abs().max()))
        assert float(off.float().quantile(0.9)) <= 0.05 * scale and float(off.max()) <= 0.3 * scale


@pytest.mark.parametrize("batch_norm", [True, False])
def test_what_is_no_number_shows_behind_hidden_layers(isa, batch_norm):
    x = torch.randn(300, 20)
    x[150, 3] = torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        result = MLP(20, (40, 33), 0.1, batch_norm)(x)
    assert bool(result.isnan().any())


def test_hidden_layers_that_the_native_pass_does_not_take(isa):
    torch.manual_seed(7)
    x = torch.randn(60, 20)

    def is_whole(change):
        mlp = MLP(20, (24, 16), 0.1, batch_norm=True)
        change(mlp)
        with torch.autocast("cpu", torch.bfloat16):
            return native_pass(mlp(x)) == PASSES["hidden"]

    assert is_whole(lambda mlp: None) == (isa != "generic")
    assert not is_whole(lambda mlp: mlp[0].register_forward_hook(lambda *_: None))
    assert not is_whole(lambda mlp: mlp[3].register_forward_hook(lambda *_: None))
    assert not is_whole(lambda mlp: mlp[1].norm.eval())
    assert not is_whole(lambda mlp: setattr(mlp[1], "dropout", 0.5))
    assert not is_whole(lambda mlp: mlp.append(nn.Identity()))
    assert not is_whole(lambda mlp: mlp.eval())


def test_a_linear_layer_of_inputs_without_gradients():
    layer = Linear(20, 24)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(50, 20)).float().sum().backward()
    assert layer.bias.grad is not None and torch.allclose(layer.bias.grad, torch.full((24,), 50.0))


def test_a_cross_network_without_layers_is_its_input(isa):
    first = torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CrossNetwork(8, 0)(first), first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("outputs", [1, 24])
def test_parameters_of_another_type_are_pytorchs(isa, outputs, dtype):
    torch.manual_seed(3)
    layer, x = Linear(12, outputs).to(dtype), torch.randn(30, 12, dtype=dtype)
    result = layer(x)
    result.sum().backward()
    assert result.dtype == dtype and native_pass(result) == ""
    assert torch.allclose(layer.weight.grad, x.sum(dim=0).expand(outputs, 12), rtol=0.05, atol=0.05)


def test_frozen_weights_and_weights_of_another_layout(isa):
    torch.manual_seed(4)
    for outputs in (1, 24):
        frozen, x = Linear(12, outputs), torch.randn(30, 12, requires_grad=True)
        frozen.weight.requires_grad_(False)
        turned = Linear(12, outputs)
        turned.weight = nn.Parameter(frozen.weight.t().contiguous().t())
        turned.bias = frozen.bias
        with torch.autocast("cpu", torch.bfloat16):
            frozen(x).float().sum().backward()
            before = x.grad.clone()
            turned(x).float().sum().backward()
        assert frozen.weight.grad is None
        assert torch.allclose(x.grad, 2 * before, atol=1e-3)
        assert torch.allclose(turned.weight.grad, x.detach().sum(dim=0).expand(outputs, 12), atol=0.1)


def test_second_derivatives_are_refused(isa):
    layer, x = Linear(12, 1), torch.randn(30, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_second_derivatives_of_an_mlp_are_refused(isa):
    mlp, x = MLP(12, (16,), 0.0, batch_norm=True), torch.randn(30, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        result = mlp(x).float()
    (gradient,) = torch.autograd.grad(result.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_an_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_ISA", "abacus")
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(InputError, match="abacus"):
        Linear(12, 24)(torch.randn(30, 12))
