"""What is computed once per request, lowered to a tensor program: the engine's share, and that it is right."""

import pytest
import torch
from torch import nn

from bowerbird.compiler.backends.native import Native, request_graph
from bowerbird.compiler.backends.native_request import RequestRunner
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.pair.lower import lower_pair
from bowerbird.compiler.staging import TOLERANCE, compile_module
from bowerbird.compiler.tensor.lower import lower_tensors
from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram
from bowerbird.kernels.tensor import TensorProgram
from bowerbird.kernels.tensor_twin import TensorTwin
from tests.compiler import modules
from tests.compiler.test_pair import SHARES, compiled
from tests.kernels.pair_cases import PROCESSORS

PARTLY = {"Masks": 0.7, "Fields": 0.9}
"""The share of modules that have operators (a running sum, a count) without a step; it is 1 for all others."""


@pytest.fixture(scope="module", params=SHARES)
def case(request):
    """Return a model's name, its request graph as the native way runs it, and features."""
    _, features, compilation = compiled(request.param)
    program = compilation.program
    return request.param, request_graph(program, lower_pair(program.pair)), features


def chosen(make, monkeypatch):
    """Return what makes a tensor program: the twin, or the engine on an instruction set; skips where there is none."""
    if not isinstance(make, str):
        return make
    monkeypatch.setenv("BOWERBIRD_ISA", make)
    try:
        PairProgram.isa()
    except InputError:
        pytest.skip(f"this machine has no {make}")
    return TensorProgram


def as_numbers(value):
    return torch.as_tensor(value).to(torch.float32)


def differs(found, expected):
    """Return the largest difference, relative beyond 1."""
    assert found.keys() == expected.keys()
    pairs = [(as_numbers(found[name]), as_numbers(value)) for name, value in expected.items()]
    assert all(mine.shape == other.shape for mine, other in pairs)
    scaled = (((mine - other).abs() / other.abs().clamp(min=1)).nan_to_num(torch.inf) for mine, other in pairs)
    return max((float(each.max()) for each in scaled if each.numel()), default=0.0)


def test_the_engine_computes_it_all(case):
    name, graph, _ = case
    assert lower_tensors(graph).native_share >= PARTLY.get(name, 1.0)


@pytest.mark.parametrize("make", [*PROCESSORS, TensorTwin])
def test_tensor_programs_answer_as_pytorch(case, make, monkeypatch):
    _, graph, features = case
    make = chosen(make, monkeypatch)
    runner, expected = RequestRunner(graph, "fp32", make), Executable(graph)
    given = features(1, 3)
    assert differs(runner(given, 1), expected(given, 1)) <= TOLERANCE


def test_many_requests_at_once_are_each_as_alone(case):
    _, graph, features = case
    runner = RequestRunner(graph, "fp32")
    each = [features(1, seed) for seed in range(3)]
    inputs = list(Executable(graph).inputs)
    together = runner({name: torch.cat([given[name] for given in each]) for name in inputs}, 3)
    for row, given in enumerate(each):
        alone = runner({name: given[name] for name in inputs}, 1)
        assert differs({name: value[row : row + 1] for name, value in together.items()}, alone) == 0.0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_fewer_bits_stay_near(case, precision):
    _, graph, features = case
    given = features(1, 1)
    assert differs(RequestRunner(graph, precision)(given, 1), Executable(graph)(given, 1)) < 0.05


class Encoder(nn.Module):
    """A user-side encoder: attention with or without a mask of padding, norms, residuals, an activation within."""

    def __init__(self, masked=False, activation="gelu"):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, activation=activation)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.masked, self.head = masked, nn.Linear(8 + 4, 1)

    def forward(self, features):
        padding = ~features["mask"] if self.masked else None
        encoded = self.encoder(features["history"], src_key_padding_mask=padding)
        return {"click": self.head(torch.cat([encoded.mean(1), features["item"]], dim=-1)).squeeze(-1)}


def encoder_features(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "history": torch.randn(1, 9, 8, generator=generator),
        "mask": torch.arange(9)[None] < 6,
        "item": torch.randn(rows, 4, generator=generator),
    }


@pytest.mark.parametrize(("masked", "activation"), [(False, "gelu"), (False, "relu"), (True, "relu")])
def test_encoders_are_attention_steps(masked, activation):
    torch.manual_seed(1)
    module = Encoder(masked, activation).eval()
    stages = {"history": "request", "mask": "request", "item": "item"}
    program = compile_module(module, modules.expanded(encoder_features(4), 4), stages).program
    steps = [step.op for step in lower_tensors(program.request).spec.steps]
    assert steps.count("attention") == 2 and "softmax" not in steps and "product" not in steps
    features = encoder_features(6, 2)
    with torch.inference_mode():
        expected = module(modules.expanded(features, 6))["click"]
    # One layer is left per candidate: too little for the engine's pair stage to judge this by.
    found = RequestRunner(program.request, "fp32")(features, 1)
    assert differs(found, Executable(program.request)(features, 1)) <= TOLERANCE
    answers = Native().prepare(program, "fp32")(features, 6)["click"]
    assert torch.allclose(answers, expected, atol=TOLERANCE)


def test_a_linear_layer_takes_its_activation_with_it():
    steps = lower_tensors(compiled("Library")[2].program.request).spec.steps
    assert {step.element for step in steps if step.op == "linear"} > {"copy"}


def test_what_is_passed_on_is_not_computed():
    graph = compiled("dcnv2")[2].program.request
    lowering = lower_tensors(graph)
    assert set(lowering.passed) | set(lowering.outputs) == set(graph.outputs)
    assert not set(lowering.passed) & set(lowering.outputs)
    assert all(source in graph.outputs or source in lowering.before.outputs for source in lowering.passed.values())


def test_an_input_that_is_absent_is_named():
    with pytest.raises(InputError, match="is absent"):
        RequestRunner(compiled("dcnv2")[2].program.request, "fp32")({}, 1)
