"""Every law keeps the answers, for random shapes and stages, and leaves a candidate less to compute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import Builder, RowGraph
from bowerbird.compiler.operations import (
    Concat,
    Expand,
    LayerNorm,
    Linear,
    Permute,
    Pointwise,
    Product,
    Reduce,
    Ref,
    Reshape,
    Slice,
)
from bowerbird.compiler.rewrite import minus, plus, reshaped, rewrite, times
from bowerbird.compiler.rewrites import LAWS
from bowerbird.compiler.rewrites.folding import LinearOfScale, LinearOfShift, ScaleOfLinear, ShiftOfLinear
from bowerbird.compiler.rewrites.layer_norm import LinearOfLayerNorm
from bowerbird.compiler.rewrites.linear import (
    LinearOfConcat,
    LinearOfExpand,
    LinearOfProduct,
    LinearOfReshape,
    LinearOfStack,
    LinearOfSum,
    ProductByConstant,
    ProductOfConcat,
)
from bowerbird.compiler.rewrites.merging import merged
from bowerbird.compiler.rewrites.pointwise import PointwiseOfConcat, PointwiseOfExpand
from bowerbird.compiler.rewrites.shapes import (
    ConcatOfConcat,
    OneStep,
    PermuteOfConcat,
    ReshapeOfConcat,
    ReshapeOfExpand,
    SliceOfConcat,
)
from bowerbird.compiler.rewrites.sums import ReduceOfConcat, SumByStage, SumOfLinears

PARTS = st.lists(st.tuples(st.sampled_from(["request", "item", "pair"]), st.integers(1, 4)), min_size=2, max_size=5)
WIDTHS = st.integers(1, 5)
N = 6
EXAMPLES = settings(max_examples=25)


class Case:
    """A graph under construction with random weights and inputs."""

    def __init__(self):
        self.build = Builder()
        self.generator = torch.Generator().manual_seed(0)

    def random(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def weight(self, *shape):
        return self.build.constant(self.random(*shape))

    def given(self, stage, *shape):
        return self.build.input(f"x{len(self.build._made)}", tuple(shape), "float32", stage)

    def parts(self, parts, *inner, leading=()):
        return [self.given(stage, *leading, length, *inner) for stage, length in parts]

    def linear(self, node, outputs=3, bias=True):
        weights = [self.weight(outputs, node.shape[-1])] + ([self.weight(outputs)] if bias else [])
        return self.build.add(Linear(), [node, *weights])


def inputs_of(case, graph):
    return {
        node.operation.name: case.random(1 if node.stage == "request" else N, *node.shape)
        for node in graph.nodes()
        if type(node.operation).__name__ == "Input"
    }


def pair_flops(graph):
    return sum(node.flops for node in graph.nodes() if node.stage == "pair")


def check(case, node, *laws, applies=True, less=True):
    """Assert that the laws apply to a node, keep its value and leave a candidate no more to do; return what it is."""
    graph = RowGraph(case.build, {"y": node})
    done = rewrite(graph, laws)
    if applies:
        assert {each.rewrite for each in done.applied} >= {type(law).__name__ for law in laws[:1]}
    features = inputs_of(case, graph)
    expected, answer = (Executable(each)(features, N)["y"] for each in (graph, done.graph))
    assert torch.allclose(answer, expected, atol=1e-4, rtol=1e-4)
    if less:
        assert pair_flops(done.graph) <= pair_flops(graph) + 8 * torch.Size(node.shape).numel()
    return done.graph.outputs["y"]


def mixed(parts):
    return len({stage for stage, _ in parts}) > 1


@EXAMPLES
@given(PARTS.filter(mixed), WIDTHS, st.booleans(), st.sampled_from([(), (3,)]))
def test_linear_of_concat(parts, outputs, bias, leading):
    case = Case()
    concat = case.build.add(Concat(-1), case.parts(parts, leading=leading))
    result = check(case, case.linear(concat, outputs, bias), LinearOfConcat())
    own = sum(length for stage, length in parts if stage == "pair")
    linear = [node for node in RowGraph(case.build, {"y": result}).nodes() if isinstance(node.operation, Linear)]
    assert sum(node.inputs[1].shape[1] for node in linear if node.stage == "pair") == own


@EXAMPLES
@given(WIDTHS, st.integers(2, 4), st.integers(0, 2), st.integers(0, 2))
def test_reshape_of_expand(width, length, before, between):
    case = Case()
    wide = case.build.add(Expand((length, width)), [case.given("item", 1, width)])
    shape = (*(1,) * before, length, *(1,) * between, width)
    result = check(case, reshaped(case.build, wide, shape), ReshapeOfExpand(), applies=shape != wide.shape)
    assert shape == wide.shape or result.operation == Expand(shape)


@EXAMPLES
@given(WIDTHS, WIDTHS, st.integers(1, 4))
def test_target_attentions_first_layer_leaves_the_product_alone(width, hidden, length):
    case = Case()
    query, keys = case.given("item", width), case.given("request", length, width)
    wide = case.build.add(Expand((length, width)), [query])
    parts = [wide, keys, minus(case.build, wide, keys), times(case.build, wide, keys)]
    first = case.linear(case.build.add(Concat(-1), parts), hidden)
    result = check(case, first, LinearOfConcat(), *LAWS)
    linear = [node for node in RowGraph(case.build, {"y": result}).nodes() if isinstance(node.operation, Linear)]
    assert sorted(node.stage for node in linear) == ["item", "pair", "request"]
    assert sum(node.flops for node in linear if node.stage == "pair") == 2 * width * hidden * length


@EXAMPLES
@given(PARTS.filter(mixed), WIDTHS, st.sampled_from([-2, -3]))
def test_linear_of_stack(parts, width, dim):
    case = Case()
    inner = (2, width) if dim == -3 else (width,)
    node = case.linear(case.build.add(Concat(dim), case.parts(parts, *inner)))
    check(case, node, LinearOfStack())


@EXAMPLES
@given(WIDTHS, st.sampled_from([plus, minus]), st.booleans())
def test_linear_of_sum(width, combine, bias):
    case = Case()
    both = combine(case.build, case.given("request", 2, width), case.given("item", width))
    result = check(case, case.linear(both, 2, bias), LinearOfSum())
    assert all(each.stage != "pair" for each in result.inputs)


@EXAMPLES
@given(st.integers(2, 4), WIDTHS)
def test_linear_of_expand_and_reshape(length, width):
    case = Case()
    wide = case.build.add(Expand((length, width)), [case.given("item", 1, width)])
    check(case, case.linear(wide), LinearOfExpand())
    flat = case.build.add(Reshape((2 * length, width)), [case.given("pair", 2, length, width)])
    check(case, case.linear(flat), LinearOfReshape())


@EXAMPLES
@given(st.integers(1, 3), st.integers(1, 4), st.integers(3, 6))
def test_linear_of_product(queries, length, width):
    case = Case()
    pooled = case.build.add(Product(), [case.given("pair", queries, length), case.given("request", length, width)])
    check(case, case.linear(pooled, 1), LinearOfProduct(), applies=queries * (length - 1) < length * width - width)


@EXAMPLES
@given(PARTS.filter(mixed), st.integers(1, 3), st.integers(1, 3))
def test_product_of_concat(parts, queries, width):
    case = Case()
    length = sum(each for _, each in parts)
    values = case.build.add(Concat(-2), case.parts(parts, width))
    lower = any(stage != "pair" for stage, _ in parts)
    check(
        case, case.build.add(Product(), [case.given("pair", queries, length), values]), ProductOfConcat(), applies=lower
    )
    keys = case.build.add(Permute((-1, -2)), [values])
    check(
        case,
        case.build.add(Product(), [case.given("pair", queries, width), keys]),
        PermuteOfConcat(),
        ProductOfConcat(),
    )


def test_product_by_constant():
    case = Case()
    check(case, case.build.add(Product(), [case.given("pair", 2, 3), case.weight(3, 4)]), ProductByConstant())


@EXAMPLES
@given(WIDTHS, WIDTHS, st.sampled_from([(), (1,), "outputs"]), st.booleans())
def test_folding_constants(width, outputs, shape, bias):
    case = Case()
    constant = case.weight(*((outputs,) if shape == "outputs" else shape))
    given_ = case.given("pair", 2, width)
    check(case, times(case.build, case.linear(given_, outputs, bias), constant), ScaleOfLinear())
    check(case, plus(case.build, case.linear(given_, outputs, bias), constant), ShiftOfLinear())
    inner = case.weight(width)
    check(case, case.linear(times(case.build, given_, inner), outputs, bias), LinearOfScale())
    check(case, case.linear(plus(case.build, given_, inner), outputs, bias), LinearOfShift())


@EXAMPLES
@given(PARTS.filter(mixed).filter(lambda parts: sum(length for _, length in parts) > 1), st.sampled_from([(), (2,)]))
def test_linear_of_layer_norm(parts, leading):
    case = Case()
    concat = case.build.add(Concat(-1), case.parts(parts, leading=leading))
    width = concat.shape[-1]
    norm = case.build.add(LayerNorm(1e-3), [concat, case.weight(width), case.weight(width)])
    check(case, case.linear(norm), LinearOfLayerNorm(), LinearOfConcat(), less=False)


def test_layer_norm_of_parts_far_from_zero_loses_no_digits():
    case = Case()
    far = [plus(case.build, each, case.build.scalar(1000.0)) for each in case.parts([("request", 40), ("item", 40)])]
    concat = case.build.add(Concat(-1), far)
    norm = case.build.add(LayerNorm(1e-5), [concat, case.weight(80), case.weight(80)])
    graph = RowGraph(case.build, {"y": case.linear(norm, 1)})
    features = inputs_of(case, graph)
    exact = {name: value.double() for name, value in features.items()}
    x = torch.cat([value.expand(N, 40) + 1000 for value in exact.values()], dim=1)
    _, factor, shift = (case.build.value(each).double() if each.stage == "constant" else None for each in norm.inputs)
    weight, bias = (case.build.value(each).double() for each in graph.outputs["y"].inputs[1:])
    expected = torch.nn.functional.layer_norm(x, (80,), factor, shift, 1e-5) @ weight.T + bias
    answer = Executable(rewrite(graph, LAWS).graph)(features, N)["y"]
    assert torch.allclose(answer.double(), expected, atol=2e-2)


@EXAMPLES
@given(PARTS.filter(mixed), st.integers(1, 3))
def test_sums_of_fields_and_of_their_squares(parts, width):
    case = Case()
    fields = case.build.add(Concat(-2), case.parts(parts, width))
    lower = any(stage != "pair" for stage, _ in parts)
    total = case.build.add(Reduce("sum.dim_IntList", (-2,)), [fields])
    check(case, total, ReduceOfConcat(), applies=lower)
    squares = case.build.add(Reduce("sum.dim_IntList", (-2,)), [times(case.build, fields, fields)])
    check(case, squares, PointwiseOfConcat(), ReduceOfConcat(), applies=lower)
    mean = case.build.add(Reduce("mean.dim", (-1, -2)), [fields])
    check(case, mean, ReduceOfConcat(), applies=lower)


@EXAMPLES
@given(st.lists(st.tuples(st.sampled_from(["request", "item", "pair"]), st.booleans()), min_size=3, max_size=7))
def test_sum_by_stage(terms):
    case = Case()
    nodes = [case.given(stage, 3) for stage, _ in terms]
    total = nodes[0]
    for node, (_, negative) in zip(nodes[1:], terms[1:], strict=True):
        total = (minus if negative else plus)(case.build, total, node)
    result = check(case, total, SumByStage(), applies=False)
    counts = {stage: sum(each == stage for each, _ in terms) for stage in ("request", "item", "pair")}
    adds = [node for node in RowGraph(case.build, {"y": result}).nodes() if isinstance(node.operation, Pointwise)]
    if counts["request"] and counts["item"]:
        pair_adds = sum(node.stage == "pair" for node in adds)
        assert pair_adds <= counts["pair"] + 2


@EXAMPLES
@given(WIDTHS, st.booleans(), st.booleans(), st.sampled_from([plus, minus]))
def test_sum_of_linears(width, first, second, combine):
    case = Case()
    given_ = case.given("item", width)
    node = combine(case.build, case.linear(given_, 2, first), case.linear(given_, 2, second))
    assert isinstance(check(case, node, SumOfLinears()).operation, Linear)


@EXAMPLES
@given(PARTS.filter(mixed), st.integers(1, 3))
def test_pointwise_of_concat(parts, width):
    case = Case()
    concat = case.build.add(Concat(-2), case.parts(parts, width))
    lower = any(stage != "pair" for stage, _ in parts)
    rectified = case.build.add(Pointwise("relu.default", (Ref(0),)), [concat])
    scaled = times(case.build, rectified, case.weight(concat.shape[0], 1))
    check(case, scaled, PointwiseOfConcat(), applies=lower)


def test_pointwise_of_expand():
    case = Case()
    wide = case.build.add(Expand((4, 3)), [case.given("item", 3)])
    check(case, times(case.build, wide, case.given("request", 4, 3)), PointwiseOfExpand())
    check(case, case.build.add(Pointwise("relu.default", (Ref(0),)), [wide]), PointwiseOfExpand())


@EXAMPLES
@given(PARTS, st.integers(1, 3), st.data())
def test_laws_of_shapes(parts, width, data):
    case = Case()
    concat = case.build.add(Concat(-2), case.parts(parts, width, leading=(2,)))
    length = concat.shape[1]
    check(case, case.build.add(Reshape((2, length * width)), [concat]), ReshapeOfConcat())
    check(case, case.build.add(Reshape((2, 1, length, width, 1)), [concat]), ReshapeOfConcat())
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    check(case, case.build.add(Slice(-2, start, stop), [concat]), SliceOfConcat(), OneStep())
    again = case.build.add(Concat(-2), [concat, concat])
    assert len(check(case, again, ConcatOfConcat()).inputs) == 2 * len(parts)
    turned = case.build.add(Permute((-1, -3, -2)), [case.build.add(Permute((-2, -1, -3)), [concat])])
    check(case, turned, OneStep())


@EXAMPLES
@given(st.lists(WIDTHS, min_size=2, max_size=4), st.booleans())
def test_layers_that_share_their_input_are_one(outputs, bias):
    case = Case()
    shared = case.given("item", 3)
    heads = {f"h{place}": case.linear(shared, each, bias) for place, each in enumerate(outputs)}
    graph = RowGraph(case.build, heads)
    after = merged(graph)
    assert sum(isinstance(node.operation, Linear) for node in after.nodes()) == 1
    features = inputs_of(case, graph)
    for name, value in Executable(graph)(features, N).items():
        assert torch.allclose(Executable(after)(features, N)[name], value, atol=1e-5)


@EXAMPLES
@given(PARTS.filter(mixed), st.integers(1, 3))
def test_all_laws_come_to_an_end(parts, width):
    case = Case()
    flat = case.build.add(Concat(-1), case.parts(parts))
    crossed = plus(case.build, times(case.build, flat, case.linear(flat, flat.shape[0])), flat)
    done = check(case, case.linear(crossed, width), *LAWS, applies=False, less=False)
    again = rewrite(RowGraph(case.build, {"y": done}), LAWS)
    assert again.applied == [] and again.graph.outputs["y"] is done


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_every_law_says_its_algebra(law):
    assert law.__doc__ and (
        "=" in law.__doc__ or "are one" in law.__doc__ or "is a" in law.__doc__ or "made of" in law.__doc__
    )
