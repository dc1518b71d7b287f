"""Target attention as it is trained is target attention as it is served, values and gradients."""

import numpy as np
import pytest
import torch

from bowerbird.embedding.deferred import DeferredFeatures, TableRows
from bowerbird.embedding.exact_tables import ExactTables
from bowerbird.embedding.inputs import CategoryInput, NumberInput, SequenceInput
from bowerbird.models import sequences
from bowerbird.models.sequences import TargetAttention
from bowerbird.models.trained_attention import is_trainable


def sequence():
    fields = (
        CategoryInput("played.tag", "tag", 3, "request"),
        CategoryInput("played.video", "video", 8, "request"),
        CategoryInput("played.author", "author", 5, "request"),
    )
    return SequenceInput("played", "request", 7, fields, (NumberInput("played.seconds", "request"),))


def attention(pooling="scaled_sum", hidden=(12, 6)):
    torch.manual_seed(0)
    declared = sequence()
    candidates = (CategoryInput("author", "author", 5, "item"), CategoryInput("video", "video", 8, "item"))
    pairs = ((candidates[0], declared.categories[2]), (candidates[1], declared.categories[1]))
    return TargetAttention(declared, pairs, hidden, pooling)


def features(rows):
    generator = torch.Generator().manual_seed(1)
    drawn = {
        "author": torch.randn(rows, 5, generator=generator),
        "video": torch.randn(rows, 8, generator=generator),
        "played.tag": torch.randn(rows, 7, 3, generator=generator),
        "played.video": torch.randn(rows, 7, 8, generator=generator),
        "played.author": torch.randn(rows, 7, 5, generator=generator),
        "played.seconds": torch.rand(rows, 7, generator=generator),
        "played.age": torch.rand(rows, 7, generator=generator),
        "played.mask": torch.arange(7) < torch.randint(0, 8, (rows, 1), generator=generator),
    }
    return {name: value.requires_grad_(value.dim() > 1 and value.is_floating_point()) for name, value in drawn.items()}


def passed(module, given, gradient):
    result = module(given)
    for value in [*given.values(), *module.parameters()]:
        value.grad = None
    result.backward(gradient)
    found = {name: value.grad for name, value in given.items() if value.requires_grad}
    return result.detach(), found | {name: value.grad for name, value in module.named_parameters()}


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pooling", ["scaled_sum", "sum"])
def test_values_and_gradients_are_those_of_plain_pytorch(rows, threads, pooling, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    module, given = attention(pooling), features(rows)
    gradient = torch.randn(rows, module.width, generator=torch.Generator().manual_seed(2))
    assert is_trainable(torch.ones(rows, 7, 3), torch.ones(rows, 4))
    trained, ours = passed(module.train(), given, gradient)
    served, theirs = passed(module.eval(), given, gradient)
    assert torch.allclose(trained, served, atol=1e-5)
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-4, rtol=1e-4), name


def test_a_sum_is_the_scaled_one_times_the_root_of_the_events():
    given = features(100)
    count = given["played.mask"].sum(dim=1, keepdim=True)
    scaled, summed = attention().eval()(given), attention("sum").eval()(given)
    assert torch.allclose(summed, scaled * count.clamp(min=1).sqrt(), atol=1e-5)
    assert not torch.allclose(summed, scaled, atol=1e-2)


def test_bfloat16_stays_near():
    module, given = attention(), features(50)
    gradient = torch.randn(50, module.width, generator=torch.Generator().manual_seed(2))
    served, theirs = passed(module.eval(), given, gradient)
    with torch.autocast("cpu", torch.bfloat16):
        trained, ours = passed(module.train(), given, gradient.to(torch.bfloat16))
    assert torch.allclose(trained.float(), served, atol=0.1)
    for name, value in theirs.items():
        assert float((ours[name].float() - value).norm()) < 0.1 * float(value.norm()) + 1e-3, name


@pytest.mark.parametrize("hidden", [(12, 6), (12,), (40, 33, 5)])
@pytest.mark.parametrize("pooling", ["scaled_sum", "sum"])
def test_on_tile_registers_all_of_it_is_one_pass(tiles, pooling, hidden, monkeypatch):
    module, given = attention(pooling, hidden), features(50)
    gradient = torch.randn(50, module.width, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert module.train()(given).grad_fn.name() == "_WholeBackward"
        whole, ours = passed(module, given, gradient)
        monkeypatch.setattr(sequences, "takes_whole", lambda *_: False)
        layered, theirs = passed(module, given, gradient)
    assert whole.dtype == torch.float32 and torch.allclose(whole, layered.float(), atol=0.05)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        assert float((ours[name] - value).norm()) < 0.1 * float(value.norm()) + 1e-3, name


def looked_up(rows, deferred):
    """Return features whose events are rows of tables, and the tables; the candidate is looked up in them, too."""
    torch.manual_seed(4)
    random = np.random.default_rng(4)
    tables = {"tag": ExactTables(3), "video": ExactTables(8), "author": ExactTables(5)}
    given = {name: value.detach() for name, value in features(rows).items()}
    unread = {}
    for name, table in tables.items():
        table.put({"other": torch.randn(11, table.rows.shape[1]), name: torch.randn(20, table.rows.shape[1])})
        handed = table.handed()
        if name in given:
            given[name] = handed.look_up([random.integers(0, 31, rows)])[0]
        places = random.integers(0, 20, (rows, 7)).astype(np.int32)
        unread[f"played.{name}"] = TableRows(handed, *table.range_of(name), places)
    known = {name: value for name, value in given.items() if name not in unread}
    found = DeferredFeatures(known, unread)
    return found if deferred else dict(found.items()), tables


@pytest.mark.parametrize("lowered", [True, False])
@pytest.mark.parametrize("rows", [1, 50])
def test_rows_of_tables_are_the_vectors_that_stand_there(tiles, rows, lowered):
    module = attention().train()
    gradient = torch.randn(rows, module.width, generator=torch.Generator().manual_seed(2))
    results = []
    for deferred in (True, False):
        given, tables = looked_up(rows, deferred)
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            result = module(given)
        module.zero_grad()
        result.backward(gradient)
        assert not deferred or bool(given.unread) == lowered
        found = [each.grad for each in (*(table.rows for table in tables.values()), *module.parameters())]
        results.append([result.detach(), *found])
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_a_frozen_table_has_no_gradient(tiles):
    module = attention().train()
    given, tables = looked_up(10, deferred=True)
    tables["tag"].rows.requires_grad_(False)
    given.unread["played.tag"] = TableRows(tables["tag"].handed(), 11, 31, given.unread["played.tag"].rows)
    with torch.autocast("cpu", torch.bfloat16):
        module(given).sum().backward()
    assert tables["tag"].rows.grad is None and tables["video"].rows.grad is not None


def test_second_derivatives_are_refused(tiles):
    module, given = attention().train(), features(10)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(given)
    (gradient,) = torch.autograd.grad(result.square().sum(), given["played.video"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_other_layers_and_types_are_left_to_the_passes_before(tiles):
    module, given = attention().train(), features(10)
    assert module(given).grad_fn.name() != "_WholeBackward"
    with torch.autocast("cpu", torch.bfloat16):
        module.score.register_forward_hook(lambda *_: None)
        assert module(given).grad_fn.name() != "_WholeBackward"


def test_frozen_layers_and_events_have_no_gradients(tiles):
    module, given = attention().train(), features(10)
    given["played.tag"].requires_grad_(False)
    module.of_event.weight.requires_grad_(False)
    module.score.weight.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        module(given).sum().backward()
    assert given["played.tag"].grad is None and module.score.weight.grad is None
    assert given["played.video"].grad is not None and module.of_product.weight.grad is not None


def test_events_of_one_request_are_left_to_pytorch():
    assert not is_trainable(torch.ones(1, 7, 3), torch.ones(5, 4))
