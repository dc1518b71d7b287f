"""Rows are lifted out of what users write, for any number of rows, or the coupling is seen."""

import pytest
import torch

from bowerbird.compiler.capture import capture
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import ordered
from bowerbird.compiler.lift import lift
from bowerbird.errors import InputError
from tests.compiler.modules import COUPLED, ODD, REFUSED, STAGES, example, expanded

ROWS = (1, 2, 7, 40)


def lifted(name):
    torch.manual_seed(0)
    module = {**ODD, **COUPLED}[name]().eval()
    return module, lift(capture(module, expanded(example(4), 4)), STAGES)


def _assert_equal(module, graph, rows):
    features = example(rows, seed=rows)
    with torch.inference_mode():
        expected = module(expanded(features, rows))
    answers = Executable(graph)(features, rows)
    assert list(answers) == list(expected)
    for name, value in expected.items():
        assert torch.allclose(answers[name].expand(value.shape), value, atol=1e-5)


@pytest.mark.parametrize("name", ODD)
def test_odd_modules_are_lifted_without_a_coupling(name):
    module, lifting = lifted(name)
    assert lifting.couplings == []
    for rows in ROWS:
        _assert_equal(module, lifting.graph, rows)


@pytest.mark.parametrize("name", COUPLED)
def test_modules_whose_rows_meet_are_kept_whole_and_say_where(name):
    module, lifting = lifted(name)
    assert lifting.couplings
    assert all(each.where.file.endswith("modules.py") and each.where.line > 0 for each in lifting.couplings)
    assert any(node.operation.couples and node.stage == "pair" for node in lifting.graph.nodes())
    for rows in ROWS:
        _assert_equal(module, lifting.graph, rows)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DependsOnData", r"modules.py:\d+.*data-dependent"),
        ("DropsRows", "rows"),
        ("Random", r"modules.py:\d+ is random"),
        ("NoDict", "dict of tensors"),
    ],
)
def test_what_cannot_be_served_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        lift(capture(REFUSED[name]().eval(), expanded(example(4), 4)), STAGES)


def test_what_the_user_alone_decides_is_computed_once():
    _, lifting = lifted("SelfAttention")
    head = lifting.graph.outputs["click"]
    early = [node for node in ordered([head]) if node.stage == "request"]
    assert len(early) > 20
    assert all(node.shared for node in early)


def test_every_value_knows_its_line():
    _, lifting = lifted("Residual")
    made = [node for node in lifting.graph.nodes() if node.stage == "pair" and node.inputs]
    assert made and all(node.where.file.endswith("modules.py") for node in made)
