"""Mixtures of experts and towers: what is shared and what is not."""

import pytest
import torch

from bowerbird.errors import InputError
from bowerbird.models.experts import Experts, Gate
from bowerbird.models.ple import PLE, ExtractionLayer
from bowerbird.models.towers import logit_of_product
from tests.models.built import built


def gradient_reaches(output, parameter):
    found = torch.autograd.grad(output.sum(), parameter, retain_graph=True, allow_unused=True)[0]
    return found is not None and bool(found.abs().sum() > 0)


def test_a_gate_weighs_experts_by_weights_that_sum_to_one():
    torch.manual_seed(1)
    gate, experts = Gate(5, 3), Experts(3, 5, (4,), 0.0, False).eval()
    flat = torch.randn(7, 5)
    weights = gate.weights(flat)
    assert torch.allclose(weights.sum(dim=1), torch.ones(7)) and bool((weights > 0).all())
    expected = sum(weights[:, place, None] * expert(flat) for place, expert in enumerate(experts.experts))
    assert torch.allclose(gate(flat, experts(flat)), expected, atol=1e-6)


def test_tasks_of_mmoe_share_experts_but_not_gates_and_towers():
    _, model = built("mmoe")
    answer = model(model.inputs.example(20, torch.Generator().manual_seed(1)))
    for expert in model.experts.experts:
        assert gradient_reaches(answer["click"], expert[0].weight)
        assert gradient_reaches(answer["long"], expert[0].weight)
    for own, other in ((0, "long"), (1, "click")):
        assert not gradient_reaches(answer[other], model.gates[own].linear.weight)
        assert not gradient_reaches(answer[other], model.towers[own].logit.weight)


def test_one_expert_of_mmoe_is_a_shared_bottom():
    _, model = built("mmoe", experts=1)
    features = model.inputs.example(6, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        shared = model.experts.experts[0](model.flat(features))
        assert torch.allclose(model(features)["long"], model.towers[1](shared)[:, 0], atol=1e-6)


def test_paths_of_ple_keep_their_own_experts_apart():
    torch.manual_seed(2)
    config = PLE.Config(expert=(4,), task_experts=2, shared_experts=1, dropout=0.0)
    layer = ExtractionLayer(5, 2, config, with_shared=True).eval()
    paths = [torch.randn(3, 5) for _ in range(3)]
    first, second, shared = layer(paths)
    own = [experts(path) for experts, path in zip(layer.own, paths, strict=False)]
    common = layer.shared(paths[2])
    weights = torch.softmax(paths[0] @ layer.gates[0].linear.weight.T, dim=1)
    mixed = [own[0][:, 0], own[0][:, 1], common[:, 0]]
    assert torch.allclose(first, sum(weights[:, place, None] * value for place, value in enumerate(mixed)), atol=1e-6)
    weights = torch.softmax(paths[2] @ layer.shared_gate[0].linear.weight.T, dim=1)
    mixed = [*own[0].unbind(1), *own[1].unbind(1), common[:, 0]]
    assert torch.allclose(shared, sum(weights[:, place, None] * value for place, value in enumerate(mixed)), atol=1e-6)
    for output, theirs in ((first, 1), (second, 0)):
        assert gradient_reaches(output, layer.shared.experts[0][0].weight)
        assert gradient_reaches(output, layer.own[1 - theirs].experts[0][0].weight)
        assert not gradient_reaches(output, layer.own[theirs].experts[0][0].weight)
    assert gradient_reaches(shared, layer.own[0].experts[1][0].weight)


def test_the_last_layer_of_ple_has_no_shared_path():
    _, model = built("ple", layers=3)
    assert [len(layer.shared_gate) for layer in model.extractions] == [1, 1, 0]


@pytest.mark.parametrize("name", ["mmoe", "ple"])
def test_conditional_tasks_are_multiplied(name):
    _, apart = built(name)
    _, joint = built(name, conditional=True)
    joint.load_state_dict(apart.state_dict())
    features = apart.inputs.example(30, torch.Generator().manual_seed(2))
    with torch.inference_mode():
        own, answer = apart(features), joint(features)
    assert torch.equal(answer["click"], own["click"])
    assert torch.allclose(answer["long"], logit_of_product(own["click"], own["long"]), atol=1e-6)
    joint.fit_rates({"click": 0.5, "long": 0.25})
    assert float(joint.towers[1].logit.bias.detach()) == pytest.approx(0)
    apart.fit_rates({"click": 0.5, "long": 0.5})
    assert float(apart.towers[1].logit.bias.detach()) == pytest.approx(0)


@pytest.mark.parametrize(("name", "options"), [("mmoe", {"experts": 0}), ("ple", {"expert": ()})])
def test_nothing_to_mix_is_refused(name, options):
    with pytest.raises(InputError, match="nothing to mix"):
        built(name, **options)
