"""One suite that every model passes."""

import numpy as np
import pytest
import torch

from bowerbird.compiler.execute import Executable
from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.models import MODELS, Task, model_config
from bowerbird.models.attention import HeadedHistory
from bowerbird.models.layers import CrossNetwork, factorisation_pairs, masked_mean
from bowerbird.models.sequences import TargetAttention, shared_fields
from bowerbird.models.towers import logit_of_product
from tests.compiler import cases
from tests.models.built import built, training_loss
from tests.training.synthetic import TASKS, synthetic_plan
from tests.training.vectors import draw

NAMES = sorted(MODELS)


@pytest.fixture(scope="module", params=NAMES)
def lifted(request):
    case = cases.case(request.param)
    return case.tables, case.module, Executable(case.compilation.written)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_row_graph_equals_eager(lifted, rows):
    _, model, program = lifted
    features = model.inputs.example(rows, torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        expected = model(features)
    answers = program(features, rows)
    assert list(answers) == [task.name for task in TASKS]
    for task, logits in expected.items():
        assert answers[task].shape == (rows,)
        assert torch.isfinite(logits).all()
        assert torch.allclose(answers[task], logits, atol=1e-5, rtol=1e-5)


def test_empty_histories_unseen_ids_and_unknown_numbers_are_scored(lifted):
    collection, model, program = lifted
    block = draw(4)
    for name, values in block.numbers.items():
        block.numbers[name] = np.full_like(values, np.nan)
    block.vectors["embedding"][:] = np.nan
    empty = block.sequences["searches"]
    block.sequences["searches"] = type(empty)(
        np.zeros(5, np.int64), {"query": np.zeros(0, np.uint64)}, np.zeros(0, np.float32)
    )
    with torch.inference_mode():
        features = collection(block)
        expected = model(features)
    for task, logits in program(features, 4).items():
        assert torch.isfinite(logits).all()
        assert torch.allclose(logits, expected[task], atol=1e-5, rtol=1e-5)


def test_a_row_is_scored_alike_alone_and_among_others(lifted):
    _, model, program = lifted
    features = model.inputs.example(300, torch.Generator().manual_seed(5))
    together = program(features, 300)
    alone = program({name: value[17:18] for name, value in features.items()}, 1)
    for task, logits in together.items():
        assert torch.allclose(logits[17:18], alone[task], atol=1e-5, rtol=1e-5)


def test_padding_does_not_matter(lifted):
    _, model, program = lifted
    features = model.inputs.example(50, torch.Generator().manual_seed(6))
    changed = dict(features)
    for sequence in model.inputs.sequences:
        mask = features[sequence.mask]
        for name in sequence.tensors:
            if name != sequence.mask:
                value = features[name]
                shape = mask if value.dim() == 2 else mask.unsqueeze(-1)
                changed[name] = torch.where(shape, value, torch.full_like(value, 3.0))
    for task, logits in program(features, 50).items():
        assert torch.allclose(logits, program(changed, 50)[task], atol=1e-5, rtol=1e-5)


def test_members_agree_with_the_answer(lifted):
    _, model, _ = lifted
    features = model.inputs.example(9, torch.Generator().manual_seed(7))
    with torch.inference_mode():
        members, answer = model.members(features), model(features)
    for task, logits in answer.items():
        assert torch.allclose(members[task].mean(dim=1), logits, atol=1e-6)


def test_biases_begin_near_the_base_rates(lifted):
    collection, model, _ = lifted
    block = draw(200)
    with torch.inference_mode():
        logits = model(collection(block))
    assert float(torch.sigmoid(logits["click"]).mean()) == pytest.approx(0.4, abs=0.2)
    assert float(torch.sigmoid(logits["long"]).mean()) == pytest.approx(0.1, abs=0.15)


def test_every_input_of_every_stage_has_gradient(lifted):
    _, model, _ = lifted
    features = model.inputs.example(20, torch.Generator().manual_seed(8))
    wanted = {
        name: value.requires_grad_()
        for name, value in features.items()
        if value.dim() > 1 and value.is_floating_point()
    }
    embedded = [name for name in wanted if not name.endswith((".age", ".seconds"))]
    loss = sum(logits.square().sum() for logits in model(features).values())
    gradients = torch.autograd.grad(loss, [wanted[name] for name in embedded], allow_unused=True)
    for name, gradient in zip(embedded, gradients, strict=True):
        assert gradient is not None and gradient.abs().sum() > 0, name


def test_a_vector_is_read_where_it_is_known(lifted):
    collection, model, _ = lifted
    features = collection(draw(6))
    with torch.inference_mode():
        answer, turned = model(features), model(features | {"embedding": -features["embedding"]})
    for task, logits in answer.items():
        moved = ~torch.isclose(logits, turned[task], atol=1e-7)
        assert moved.tolist() == [True, True, True, False, True, True]  # row 3 is unknown


@pytest.mark.parametrize("name", NAMES)
def test_training_reaches_every_parameter_and_repeats_with_its_seed(name):
    runs = []
    for _ in range(2):
        collection, model = built(name)
        parameters = dict(model.train().named_parameters())
        with torch.no_grad():
            for value in parameters.values():
                value += 0.05 * torch.randn_like(value)
        loss = training_loss(collection, model, rows=64)
        loss.backward()
        runs.append((float(loss.detach()), {key: value.grad for key, value in parameters.items()}))
    (first, gradients), (second, again) = runs
    assert first == second
    for key, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0, key
        assert torch.equal(gradient, again[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_one_task_is_enough(name):
    collection, model = built(name, tasks=TASKS[:1])
    with torch.inference_mode():
        logits = model(collection(draw(5)))
    assert list(logits) == ["click"] and logits["click"].shape == (5,)


def test_the_joint_probability_of_esmm_never_exceeds_the_first():
    _, model = built("esmm")
    features = model.inputs.example(500, torch.Generator().manual_seed(2))
    with torch.inference_mode():
        logits = model(features)
    assert (logits["long"] <= logits["click"]).all()


def test_logit_of_product_is_exact_and_stable():
    first = torch.tensor([0.0, 2.0, -3.0, 40.0, -80.0], dtype=torch.float64)
    second = torch.tensor([1.0, -1.0, 4.0, 40.0, -80.0], dtype=torch.float64)
    product = torch.sigmoid(first) * torch.sigmoid(second)
    result = logit_of_product(first, second)
    assert torch.allclose(result[:3], torch.logit(product[:3]))
    assert float(result[3]) == pytest.approx(40 - np.log(2))
    assert float(result[4]) == pytest.approx(-160)


def test_factorisation_pairs_equal_the_double_sum():
    fields = torch.randn(3, 5, 4)
    expected = sum(fields[:, i] * fields[:, j] for i in range(5) for j in range(i))
    assert torch.allclose(factorisation_pairs(fields), expected, atol=1e-5)


def test_a_cross_layer_is_the_papers():
    network = CrossNetwork(4, 1)
    first = torch.randn(2, 4)
    linear = network.layers[0]
    assert torch.allclose(network(first), first * (first @ linear.weight.T + linear.bias) + first, atol=1e-6)


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0, 0]]


def test_attention_meets_the_candidate_only_where_vocabularies_are_shared():
    _, model = built("din")
    history, searches = model.inputs.sequences
    assert [(a.name, b.name) for a, b in shared_fields(model.inputs, history)] == [
        ("item", "history.item"),
        ("topic", "history.topic"),
    ]
    assert shared_fields(model.inputs, searches) == ()
    kinds = [isinstance(module, TargetAttention) for module in model.flat.histories]
    assert kinds == [True, False]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("dinn", {}, "Did you mean 'din'"),
        ("din", {"hiden": (3,)}, "Did you mean 'hidden'"),
        ("din", {"dropout": "much"}, "dropout"),
    ],
)
def test_a_wrong_option_is_named(name, values, message):
    with pytest.raises(InputError, match=message):
        model_config(name, values)


def test_tasks_must_follow_what_they_are_given():
    inputs = EmbeddingCollection.Config().build(synthetic_plan()).inputs
    with pytest.raises(InputError, match="click"):
        model_config("esmm").build(inputs, (Task("long", given="click"), Task("click")))
    with pytest.raises(InputError, match="nothing to predict"):
        model_config("din").build(inputs, ())


def test_headed_attention_equals_the_textbook():
    torch.manual_seed(4)
    _, model = built("tabm")
    history = next(module for module in model.histories if isinstance(module, HeadedHistory))
    torch.nn.init.normal_(history.nothing)
    features = model.inputs.example(40, torch.Generator().manual_seed(9))
    events, mask = history.events(features), features[history.mask]
    query = history.to_query(torch.cat([features[name] for name in history.query], dim=-1)).unflatten(
        -1, (history.heads, -1)
    )
    key = history.to_key(events).unflatten(-1, (history.heads, -1))
    scores = torch.einsum("rhd,rlhd->rhl", query, key) / history.dimension**0.5 + history.to_bias(events).transpose(
        1, 2
    )
    scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
    slots = torch.cat([scores, history.nothing.expand(40, history.heads).unsqueeze(-1)], dim=-1)
    values = history.to_value(events) + torch.relu(history.to_rectified(events))
    expected = torch.einsum("rhl,rlv->rhv", torch.softmax(slots, dim=-1)[..., :-1], values).flatten(1)
    assert torch.allclose(history(features), expected, atol=1e-5)
    empty = ~mask.any(dim=1)
    assert empty.any() and torch.equal(history(features)[empty], torch.zeros(int(empty.sum()), history.width))
