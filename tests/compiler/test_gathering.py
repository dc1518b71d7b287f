"""Operators that stand side by side become one, and answer alike."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.operations import Cast, Concat, Input, Pointwise, Ref, Reshape, Stack
from bowerbird.compiler.rewrite import minus, times
from bowerbird.compiler.rewrites.gathering import PointwiseTogether, StackOfNumbers, gathered
from bowerbird.compiler.rewrites.pointwise import PointwiseOfConcat
from bowerbird.compiler.staged import staged
from tests.compiler.test_rewrites import EXAMPLES, Case, N, check, inputs_of

WIDE = st.lists(st.integers(1, 3), min_size=2, max_size=5)
UNKNOWN = Pointwise("isnan.default", (Ref(0),))
RELU = Pointwise("relu.default", (Ref(0),))


def steps(graph):
    return [node for node in graph.nodes() if node.stage != "constant" and not isinstance(node.operation, Input)]


def standardised(case, value, width):
    """Return (relu(value) - mean) · scale, with weights of its own, and one that all share."""
    centred = minus(case.build, case.build.add(RELU, [value]), case.weight(width))
    return times(case.build, times(case.build, centred, case.weight(1)), case.build.scalar(0.5))


@EXAMPLES
@given(WIDE, st.sampled_from(["request", "item", "pair"]), st.sampled_from([(), (2,)]))
def test_a_chain_on_each_part_is_one_chain(widths, stage, leading):
    case = Case()
    parts = [standardised(case, case.given(stage, *leading, width), width) for width in widths]
    done = check(case, case.build.add(Concat(-1), parts), PointwiseTogether(), less=False)
    assert sum(isinstance(node.operation, Pointwise) for node in steps(RowGraph(case.build, {"y": done}))) == 4


@EXAMPLES
@given(st.lists(st.sampled_from(["request", "item"]), min_size=2, max_size=8))
def test_parts_of_different_stages_and_operators_stay_apart(stages):
    case = Case()
    parts = [case.build.add(RELU, [case.given(stage, 2)]) for stage in stages]
    parts.insert(1, case.given("pair", 3))
    check(case, case.build.add(Concat(-1), parts), PointwiseTogether(), applies=False, less=False)


def test_an_operand_that_varies_is_not_taken_for_one_that_does_not():
    """A vector that each part is multiplied by, of another length than the part, cannot stand side by side."""
    case = Case()
    narrow = [case.given("request", 1) for _ in range(3)]
    wide = case.given("request", 4)
    parts = [times(case.build, each, wide) for each in narrow]
    check(case, case.build.add(Concat(-1), parts), PointwiseTogether(), applies=False, less=False)


def test_numbers_are_stacked_and_standardised_once_at_each_stage():
    case = Case()
    outputs = {}
    for stage in ("request", "item", "pair"):
        vectors = [case.build.add(Reshape((1,)), [case.given(stage)]) for _ in range(9)]
        values = [standardised(case, each, 1) for each in vectors]
        indicators = [case.build.add(Cast("float32"), [case.build.add(UNKNOWN, [each])]) for each in vectors]
        outputs[stage] = case.linear(case.build.add(Concat(-1), [*values, *indicators]))
    graph = RowGraph(case.build, outputs)
    program = gathered(staged(graph))
    for part in (program.request, program.item, program.pair):
        assert len(steps(part)) == 9, steps(part)
        assert sum(isinstance(node.operation, Stack) for node in steps(part)) == 1
    features = inputs_of(case, graph)
    features = {name: value.masked_fill(value > 1, torch.nan) for name, value in features.items()}
    left = {**Executable(program.request)(features, 1), **Executable(program.item)(features, N)}
    answers = Executable(program.pair)({**features, **left}, N)
    for name, expected in Executable(graph)(features, N).items():
        assert torch.allclose(answers[name], expected, atol=1e-5, equal_nan=True)


def test_single_numbers_alone_are_stacked():
    case = Case()
    parts = [case.build.add(Reshape((1,)), [case.given("item")]) for _ in range(3)]
    assert check(case, case.build.add(Concat(-1), parts), StackOfNumbers(), less=False).operation == Stack()
    mixed = [*parts, case.given("item", 2)]
    check(case, case.build.add(Concat(-1), mixed), StackOfNumbers(), applies=False, less=False)


@EXAMPLES
@given(WIDE)
def test_a_cast_is_carried_into_its_parts(widths):
    case = Case()
    flags = [case.build.add(UNKNOWN, [case.given(stage, width)]) for width in widths for stage in ("item", "pair")]
    check(case, case.build.add(Cast("float32"), [case.build.add(Concat(-1), flags)]), PointwiseOfConcat())
