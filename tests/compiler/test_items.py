"""What is computed of items, on tensor programs of several items: the engine's share, and that it is right."""

import numpy as np
import pytest
import torch

from bowerbird.compiler.backends.contract import as_tensor
from bowerbird.compiler.backends.native_rows import own_stacks, rows_runner
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.staging import TOLERANCE
from bowerbird.errors import InputError
from bowerbird.kernels.flat_values import FlatLayout, FlatValues
from bowerbird.kernels.tensor_twin import TensorTwin
from bowerbird.models import MODELS
from tests.compiler import cases
from tests.compiler.test_conformance import make_unknown
from tests.compiler.test_pair import SHARES, compiled
from tests.compiler.test_tensor import chosen, differs
from tests.kernels.pair_cases import ISAS
from tests.training.vectors import draw


@pytest.fixture(scope="module", params=SHARES)
def case(request):
    """Return a model's name, its item graph and features."""
    _, features, compilation = compiled(request.param)
    return request.param, compilation.program.item, features


def given_to(graph, features, items, seed):
    """Return the features that an item graph reads, of so many items."""
    every = features(max(items, 1), seed)
    return {name: every[name][:items] for name in Executable(graph).inputs}


def computes(graph):
    return any(node.flops for node in graph.nodes() if node.stage != "constant")


def test_the_engine_computes_all_of_it(case):
    _, graph, _ = case
    assert rows_runner(graph)[1] == 1 or not computes(graph)


@pytest.mark.parametrize("items", [0, 1, 7, 5000])
def test_items_are_as_pytorch_makes_them(case, items):
    _, graph, features = case
    given = given_to(graph, features, items, 3)
    assert differs(rows_runner(graph)[0](given, items), Executable(graph)(given, items)) <= TOLERANCE


@pytest.mark.parametrize("make", [*ISAS, TensorTwin])
def test_every_instruction_set_and_the_twin(case, make, monkeypatch):
    _, graph, features = case
    given, make = given_to(graph, features, 13, 5), chosen(make, monkeypatch)
    assert differs(rows_runner(graph, make)[0](given, 13), Executable(graph)(given, 13)) <= TOLERANCE


def test_an_item_has_the_same_bits_in_any_company(case):
    _, graph, features = case
    run, least = rows_runner(graph)
    if least > 1:
        pytest.skip("PyTorch makes them")
    given = given_to(graph, features, 40, 7)
    together = run(given, 40)
    chance = np.random.default_rng(0)
    for count in (1, 2, 6, 11, 12, 13, 25):
        chosen = torch.from_numpy(chance.permutation(40)[:count])
        some = run({name: value if len(value) == 1 else value[chosen] for name, value in given.items()}, count)
        for name, value in some.items():
            expected = as_tensor(together[name])
            assert torch.equal(as_tensor(value), expected if len(expected) == 1 else expected[chosen]), name


@pytest.mark.parametrize("items", [7, 12, 24])
@pytest.mark.parametrize("stacked", [False, True])
def test_items_in_a_few_arrays_are_the_same(case, items, stacked):
    _, graph, features = case
    run, _ = rows_runner(graph)
    given = given_to(graph, features, items, 9)
    if any(len(value) != items for value in given.values()):
        pytest.skip("its items have features of one row")
    expected = run(given, items)
    own = own_stacks(run.stacked) if stacked else {}
    left = {name: value for name, value in given.items() if not any(name in names for names in own.values())}
    values = left | {name: torch.stack([given[each] for each in names], 1) for name, names in own.items()}
    layout = FlatLayout([{name: tuple(value.shape[1:])} for name, value in values.items()])
    flat = FlatValues(layout, [np.ascontiguousarray(value.numpy()).reshape(-1) for value in values.values()], items)
    found = run(flat, items)
    assert found.keys() == expected.keys()
    assert all(torch.equal(as_tensor(found[name]), as_tensor(value)) for name, value in expected.items())


@pytest.mark.parametrize("name", MODELS)
def test_unseen_ids_and_unknown_numbers(name):
    found = cases.case(name)
    block = draw(5)
    make_unknown(block)
    with torch.inference_mode():
        features = found.tables(block)
    graph = found.compilation.program.item
    given = {each: features[each] for each in Executable(graph).inputs}
    assert differs(rows_runner(graph)[0](given, 5), Executable(graph)(given, 5)) <= TOLERANCE


def test_a_feature_that_is_absent_is_named():
    with pytest.raises(InputError, match="is absent"):
        rows_runner(compiled("din")[2].program.item)[0]({}, 1)
