"""Field interactions against their formulas written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.embedding import EmbeddingCollection
from bowerbird.embedding.inputs import CategoryInput, Inputs
from bowerbird.errors import InputError
from bowerbird.models import Task, model_config
from bowerbird.models.field_attention import FieldAttention
from bowerbird.models.finalmlp import BilinearFusion
from bowerbird.models.finalnet import FactorisedInteraction, FieldGate
from bowerbird.models.pairs import PairLogits
from bowerbird.models.ranker import Targets
from tests.models.built import built
from tests.training.synthetic import TASKS

CLICK = (Task("click"),)


def categories(*names, dimension):
    return Inputs(tuple(CategoryInput(name, name, dimension, "request") for name in names), (), ())


def randomised(module):
    torch.manual_seed(6)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape))
    return module.eval()


@settings(max_examples=20)
@given(fields=st.integers(1, 6), dimension=st.integers(2, 5), seed=st.integers(0, 99))
def test_fm_is_the_double_loop(fields, dimension, seed):
    names = [f"field{place}" for place in range(fields)]
    inputs = categories(*names, dimension=dimension)
    model = randomised(model_config("fm", {"dimension": dimension}).build(inputs, CLICK))
    features = inputs.example(3, torch.Generator().manual_seed(seed))
    rows = np.stack([features[name].numpy().astype(np.float64) for name in names], axis=1)
    expected = np.full(3, float(model.first_order.bias.detach()))
    for one in range(fields):
        expected += rows[:, one, -1]
        for other in range(one):
            expected += (rows[:, one, :-1] * rows[:, other, :-1]).sum(axis=1)
    with torch.inference_mode():
        np.testing.assert_allclose(model(features)["click"].numpy(), expected, atol=1e-4)


def test_each_task_of_fm_has_weights_of_its_own():
    inputs = categories("user", "item", dimension=6)
    model = randomised(model_config("fm", {"dimension": 6}).build(inputs, TASKS))
    features = inputs.example(4, torch.Generator().manual_seed(1))
    user, item = features["user"], features["item"]
    with torch.inference_mode():
        answer = model(features)
        for place, task in enumerate(TASKS):
            expected = (user[:, :4] * item[:, :4]) @ model.pairs.weight[place]
            expected = expected + user[:, 4 + place] + item[:, 4 + place] + model.first_order.bias[place]
            assert torch.allclose(answer[task.name], expected, atol=1e-5)


def test_pairs_of_one_task_have_nothing_to_learn():
    assert not list(PairLogits(5, 1).parameters())
    fields = torch.randn(2, 3, 5)
    assert torch.allclose(PairLogits(5, 2)(fields), PairLogits(5, 1)(fields).expand(2, 2), atol=1e-5)


def test_logistic_regression_with_own_weights_is_their_sum():
    inputs = categories("user", "item", "hour", dimension=1)
    model = randomised(model_config("lr", {"own_weights": True}).build(inputs, CLICK))
    features = inputs.example(5, torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = sum(value[:, 0] for value in features.values()) + model.first_order.bias
        assert torch.allclose(model(features)["click"], expected, atol=1e-6)
    with pytest.raises(InputError, match="have 1 columns; 2 are needed"):
        model_config("lr", {"own_weights": True}).build(inputs, TASKS)


def test_a_history_counts_as_the_mean_of_its_events_weights():
    _, model = built("widedeep")
    features = model.inputs.example(30, torch.Generator().manual_seed(4))
    changed = dict(features)
    changed["history.item"] = features["history.item"] + torch.nn.functional.pad(torch.ones(1), (15, 0))
    with torch.inference_mode():
        difference = model.wide(changed) - model.wide(features)
    some = features["history.mask"].any(dim=1)
    expected = torch.stack([torch.zeros(30), some.float()], dim=1)
    assert some.any() and not some.all()
    assert torch.allclose(difference, expected, atol=1e-5)


def test_deepfm_with_own_weights_is_fm_beside_an_mlp():
    inputs = categories("user", "item", dimension=5)
    model = randomised(model_config("deepfm", {"dimension": 5, "own_weights": True}).build(inputs, CLICK))
    features = inputs.example(6, torch.Generator().manual_seed(3))
    user, item = features["user"], features["item"]
    with torch.inference_mode():
        deep = model.heads(model.mlp(torch.cat([user[:, :4], item[:, :4]], dim=1)))["click"]
        expected = deep + user[:, 4] + item[:, 4] + (user[:, :4] * item[:, :4]).sum(dim=1)
        assert torch.allclose(model(features)["click"], expected, rtol=1e-4)


@pytest.mark.parametrize("scaled", [True, False])
def test_field_attention_is_torchs(scaled):
    layer = randomised(FieldAttention(8, 8, 2, 0.0, residual=True, scaled=scaled, layer_norm=False))
    theirs = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True).eval()
    with torch.no_grad():
        factor = 1.0 if scaled else 2.0  # torch divides scores by the square root of a head's 4 columns
        weights = [layer.to_query.weight * factor, layer.to_key.weight, layer.to_value.weight]
        theirs.in_proj_weight.copy_(torch.cat(weights))
        theirs.out_proj.weight.copy_(torch.eye(8))
        fields = torch.randn(4, 5, 8)
        expected = torch.relu(theirs(fields, fields, fields, need_weights=False)[0] + fields)
        assert torch.allclose(layer(fields), expected, atol=1e-5)


def test_attention_of_another_width_has_a_residual_map_and_a_norm():
    layer = randomised(FieldAttention(3, 4, 1, 0.0, residual=True, scaled=True, layer_norm=True))
    with torch.no_grad():
        layer.to_value.weight.zero_()
        fields = torch.randn(2, 6, 3)
        expected = torch.relu(layer.norm(fields @ layer.residual[0].weight.T))
        assert torch.allclose(layer(fields), expected, atol=1e-6)
    with pytest.raises(InputError, match="3 heads do not divide"):
        FieldAttention(3, 4, 3, 0.0, residual=True, scaled=True, layer_norm=False)


def test_without_an_mlp_autoint_is_the_papers():
    inputs = categories("user", "item", dimension=4)
    options = {"dimension": 4, "hidden": (), "layers": 2, "attention": 6}
    model = randomised(model_config("autoint", options).build(inputs, CLICK))
    features = inputs.example(3, torch.Generator().manual_seed(3))
    with torch.inference_mode():
        fields = torch.stack([features["user"], features["item"]], dim=1)
        hidden = model.attention[1](model.attention[0](fields)).flatten(1)
        expected = hidden @ model.heads.linear.weight[0] + model.heads.linear.bias
        assert torch.allclose(model(features)["click"], expected, rtol=1e-5)


def test_bilinear_fusion_is_the_sum_over_heads():
    fusion = randomised(BilinearFusion(6, 4, 2, TASKS))
    first, second = torch.randn(3, 6), torch.randn(3, 4)
    with torch.no_grad():
        answer = fusion(first, second)
        for row in range(3):
            for task in range(2):
                expected = fusion.of_first(first[row])[task] + fusion.of_second(second[row])[task]
                for head in range(2):
                    x, y = first[row, 3 * head : 3 * head + 3], second[row, 2 * head : 2 * head + 2]
                    for a in range(3):
                        for b in range(2):
                            expected = expected + x[a] * fusion.weight[head, a, b, task] * y[b]
                assert torch.allclose(answer[row, task], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="4 heads do not divide a width of 6"):
        BilinearFusion(6, 4, 4, TASKS)


def test_each_stream_is_gated_by_its_own_context_alone():
    inputs = categories("user", "item", "hour", dimension=4)
    options = {"dimension": 4, "first_context": ("user",), "second_context": ("item",)}
    model = randomised(model_config("finalmlp", options).build(inputs, CLICK))
    features = inputs.example(3, torch.Generator().manual_seed(5))
    first, second = (gate(features) for gate in model.gates)
    assert first.shape == (3, 12) and bool(((first >= 0) & (first <= 2)).all())
    moved = features | {"user": features["user"] + 1}
    assert not torch.allclose(model.gates[0](moved), first)
    assert torch.equal(model.gates[1](moved), second)


def test_a_context_may_have_embeddings_of_its_own():
    inputs = Inputs(
        (CategoryInput("user", "user", 7, "request"), CategoryInput("item", "item", 4, "item")), (), ()
    )
    options = {"dimension": 4, "first_context": ("user",), "own_context": True}
    model = randomised(model_config("finalmlp", options).build(inputs, CLICK))
    features = inputs.example(3, torch.Generator().manual_seed(5))
    narrow = features | {"user": features["user"][:, :4]}
    with torch.inference_mode():
        flat = torch.cat([narrow["user"], narrow["item"]], dim=1)
        first, second = (gate(features) for gate in model.gates)
        gate = 2 * torch.sigmoid(model.gates[0].gate(model.gates[0].mlp(features["user"][:, 4:])))
        assert torch.allclose(first, gate)
        assert second.shape == (1, 8)
        expected = model.fusion(model.first(flat * first), model.second(flat * second))[:, 0]
        assert torch.allclose(model(features)["click"], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_context": ("usr",)}, "Did you mean 'user'"),
        ({"first_context": ("user",), "own_context": True}, "Set embedding.dimensions of 'user' to 32"),
        ({"heads": 3}, "3 heads do not divide"),
    ],
)
def test_finalmlp_says_what_does_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        model_config("finalmlp", options).build(categories("user", "item", dimension=16), CLICK)


@pytest.mark.parametrize("residual", ["concat", "sum"])
def test_a_factorised_layer_multiplies_two_maps(residual):
    layer = randomised(FactorisedInteraction(3, 4, residual))
    hidden = torch.randn(2, 3)
    both = hidden @ layer.linear.weight.T + layer.linear.bias
    half = both.shape[1] // 2
    first, product = both[:, :half], both[:, :half] * both[:, half:]
    expected = torch.cat([first, product], dim=1) if residual == "concat" else first + product
    assert torch.allclose(layer(hidden), expected, atol=1e-6)
    assert layer(hidden).shape == (2, 4)


def test_a_field_gate_begins_at_one_and_mixes_fields_by_component():
    gate = FieldGate(3)
    fields = torch.randn(2, 3, 4)
    assert torch.equal(gate(fields), torch.cat([fields, fields], dim=1))
    gate = randomised(gate)
    expected = torch.zeros(2, 3, 4)
    for field in range(3):
        for other in range(3):
            expected[:, field] += gate.linear.weight[field, other] * fields[:, other]
        expected[:, field] += gate.linear.bias[field]
    assert torch.allclose(gate(fields)[:, 3:], fields * expected, atol=1e-5)


def test_the_blocks_of_finalnet_learn_from_their_mean_which_stands_still():
    _, model = built("finalnet", distillation=0.5)
    features = model.inputs.example(40, torch.Generator().manual_seed(3))
    done = model.training_pass(features)
    weight = torch.rand(40)
    loss = model.auxiliary_loss(done, Targets({}, weight, lambda: torch.zeros(40, dtype=torch.int64)))
    expected = 0.0
    for task, blocks in done.extras.items():
        answer = torch.sigmoid(blocks.mean(dim=1)).detach()
        assert torch.allclose(done.logits[task][:, 0], blocks.mean(dim=1))
        for block in range(2):
            p = torch.sigmoid(blocks[:, block])
            entropy = -(answer * p.log() + (1 - answer) * (1 - p).log())
            expected = expected + 0.5 * (entropy * weight).sum() / weight.sum()
    assert torch.allclose(loss, expected, atol=1e-5)
    found = torch.autograd.grad(loss, done.extras["click"], retain_graph=True)[0]
    assert torch.allclose(found, torch.autograd.grad(expected, done.extras["click"])[0], atol=1e-6)


def test_a_single_block_has_no_loss_of_its_own():
    _, model = built("finalnet", second=())
    features = model.inputs.example(8, torch.Generator().manual_seed(3))
    done = model.training_pass(features)
    assert float(model.auxiliary_loss(done, Targets({}, torch.ones(8), lambda: torch.zeros(8)))) == 0
    assert torch.equal(done.logits["click"][:, 0], done.extras["click"][:, 0])
    with pytest.raises(InputError, match="no layer"):
        built("finalnet", first=())
    with pytest.raises(InputError, match="cannot be halved"):
        built("finalnet", first=(5,))


def test_the_loss_of_other_models_is_the_tasks_alone():
    _, model = built("dcnv2")
    done = model.training_pass(model.inputs.example(4, torch.Generator().manual_seed(3)))
    assert float(model.auxiliary_loss(done, Targets({}, torch.ones(4), lambda: torch.zeros(4)))) == 0


@pytest.mark.parametrize("name", ["fm", "widedeep"])
def test_rows_too_narrow_for_weights_are_refused(name):
    inputs = EmbeddingCollection.Config(dimension=1).build(built(name)[0].plan).inputs
    with pytest.raises(InputError, match="3 are needed"):
        model_config(name).build(inputs, TASKS)
