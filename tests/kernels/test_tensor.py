"""The native tensor program is its NumPy twin: every step, on every instruction set, over views of any strides."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bowerbird.errors import InputError
from bowerbird.kernels.flat_values import FlatLayout, FlatValues
from bowerbird.kernels.tensor import TensorProgram
from bowerbird.kernels.tensor_rows import side_by_side
from bowerbird.kernels.tensor_spec import ARITY, TensorInput, TensorSpec, TensorStep
from bowerbird.kernels.tensor_twin import TensorTwin
from bowerbird.kernels.tensor_view import View

POSITIVE = {"log", "log1p", "sqrt", "rsqrt"}
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 40)
shapes = st.lists(st.integers(1, 19), min_size=0, max_size=4).map(tuple)
properties = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def answers_by_row(spec, answers):
    """Return the answers of rows that stand side by side, one row after another."""
    sizes = [int(np.prod(view.shape)) for view in spec.outputs.values()]
    parts = np.split(answers[0], np.cumsum(sizes)[:-1])
    rows = [view.shape[0] for view in spec.outputs.values()]
    return np.concatenate([part.reshape(count, -1) for part, count in zip(parts, rows, strict=True)], axis=1)


class Case:
    """One step over random inputs that stand in any order, with gaps and repetitions."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.inputs, self.arrays, self.sizes, self.steps = {}, [], {}, []

    def given(self, shape, whole=False, truths=False):
        """Return a view of a new input; with ``whole`` its last dimension is contiguous."""
        order = self.random.permutation(len(shape))
        if whole and len(shape):
            order = [*(dim for dim in order if dim != len(shape) - 1), len(shape) - 1]
        repeated = {int(self.random.integers(len(shape)))} if len(shape) > (1 if whole else 0) else set()
        repeated -= {len(shape) - 1} if whole else set()
        held = [1 if dim in repeated else shape[dim] + int(self.random.integers(3)) for dim in order]
        name = f"x{len(self.inputs)}"
        self.inputs[name] = TensorInput(tuple(held), truths)
        values = self.random.normal(size=(2, *held)).astype(np.float32)
        self.arrays.append(values > 0 if truths else values)
        view = View.whole(name, tuple(held)).permuted([list(order).index(dim) for dim in range(len(shape))])
        for dim, size in enumerate(shape):
            view = view.part(dim, 0, 1) if dim in repeated else view.part(dim, 0, size)
        return view.expanded(tuple(shape))

    def room(self, shape, whole=False):
        name = f"y{len(self.sizes)}"
        order = [int(each) for each in self.random.permutation(len(shape))]
        if whole and shape:
            order = [*(dim for dim in order if dim != len(shape) - 1), len(shape) - 1]
        held = tuple(shape[dim] for dim in order)
        self.sizes[name] = int(np.prod(held))
        return View.whole(name, held).permuted([order.index(dim) for dim in range(len(shape))])

    def step(self, op, out, inputs, **more):
        self.steps.append(TensorStep(op, out, tuple(inputs), **more))
        return out

    def check(self, outputs, precision="fp32", tolerance=1e-5):
        """Compare two rows, one after another and side by side, with the twin's."""
        spec = TensorSpec(self.inputs, {str(n): each for n, each in enumerate(outputs)}, self.steps, self.sizes)
        expected = TensorTwin(spec, precision).run(self.arrays, 2)
        self.compare(TensorProgram(spec, precision).run(self.arrays, 2), expected, tolerance)
        together = side_by_side(spec, 2)
        for make in (TensorProgram, TensorTwin):
            found = make(together, precision).run([each[None] for each in self.arrays], 1)
            self.compare(answers_by_row(together, found), expected, tolerance)

    def compare(self, found, expected, tolerance):
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        scale = max(1.0, float(np.nan_to_num(np.abs(expected)).max(initial=0.0)))
        with np.errstate(invalid="ignore"):
            assert np.nan_to_num(np.abs(found - expected)).max(initial=0.0) < tolerance * scale, self.steps


@properties
@given(seeds, shapes, st.sampled_from(sorted(ARITY)))
def test_pointwise(isa, seed, shape, element):
    case = Case(seed)
    inputs = [case.given(shape, truths=element == "where" and not n) for n in range(ARITY[element])]
    if element in POSITIVE:
        case.arrays = [np.abs(each) + np.float32(0.01) for each in case.arrays]
    elif element in ("div", "reciprocal"):
        case.arrays[-1] = case.arrays[-1] + np.sign(case.arrays[-1])
    elif element in ("eq", "ne", "le", "sign", "not", "and", "or"):
        case.arrays = [np.round(each) for each in case.arrays]
    elif element in ("is_nan", "nan_to_num"):
        case.arrays[0].reshape(-1)[::3] = np.nan
        case.arrays[0].reshape(-1)[1::5] = np.inf
        case.arrays[0].reshape(-1)[2::7] = -np.inf
    case.check([case.step("pointwise", case.room(shape), inputs, element=element, numbers=(-0.5, 0.25, 3.0))])


@properties
@given(seeds, shapes, st.lists(st.integers(1, 35), min_size=1, max_size=3), st.sampled_from(["sum", "mean", "max"]))
def test_reductions(isa, seed, shape, reduced, kind):
    case = Case(seed)
    given_view = case.given((*shape[:2], *reduced))
    rounding = 1e-5 * np.sqrt(np.prod(reduced))
    case.check([case.step("reduce", case.room(shape[:2]), [given_view], reduction=kind)], tolerance=rounding)


@properties
@given(seeds, shapes, st.integers(1, 70), st.booleans(), st.booleans())
def test_rows(isa, seed, shape, width, weighted, shifted):
    case = Case(seed)
    whole = (*shape[:2], width)
    weight = case.random.normal(size=width).astype(np.float32) if weighted else None
    bias = case.random.normal(size=width).astype(np.float32) if shifted else None
    normed = case.step(
        "layer_norm", case.room(whole, True), [case.given(whole, True)], weight=weight, bias=bias, number=1e-3
    )
    case.check([normed, case.step("softmax", case.room(whole, True), [case.given(whole, True)])])


@properties
@given(
    seeds, st.integers(1, 20), st.integers(1, 150), sizes, st.booleans(),
    st.sampled_from(["copy", "relu", "sigmoid", "leaky_relu"]), st.sampled_from(["fp32", "bf16", "int8"]),
)  # fmt: skip
def test_linear(isa, seed, rows, outputs, inputs, biased, element, precision):
    case = Case(seed)
    weight = case.random.normal(size=(outputs, inputs)).astype(np.float32)
    bias = case.random.normal(size=outputs).astype(np.float32) if biased else None
    given_rows = case.given((rows, inputs), True)
    more = {"weight": weight, "bias": bias, "element": element, "numbers": (0.1,)}
    out = case.step("linear", case.room((rows, outputs), True), [given_rows], **more)
    case.check([out], precision)


@properties
@given(seeds, shapes, sizes, st.integers(1, 70), sizes)
def test_products(isa, seed, batch, rows, columns, inner):
    case = Case(seed)
    batch = batch[:2]
    first, second = case.given((*batch, rows, inner), True), case.given((*batch, inner, columns))
    case.check([case.step("product", case.room((*batch, rows, columns), True), [first, second])])


@properties
@given(seeds, st.integers(1, 3), st.integers(1, 100), st.integers(1, 70), st.integers(1, 20), sizes, st.booleans())
def test_attention(isa, seed, heads, rows, positions, key_width, value_width, masked):
    case = Case(seed)
    shapes = ((heads, rows, key_width), (heads, positions, key_width), (heads, positions, value_width))
    inputs = [case.given(shape, True) for shape in shapes]
    if masked:
        inputs.append(case.given((positions,), truths=True))
    case.check([case.step("attention", case.room((heads, rows, value_width), True), inputs, number=0.3)])


@properties
@given(seeds, st.lists(st.integers(1, 90), min_size=2, max_size=7))
def test_values_share_memory_only_in_turn(isa, seed, widths):
    case = Case(seed)
    views = [case.given((3, widths[0]), True)]
    for width in widths[1:]:
        before = views[int(case.random.integers(len(views)))]
        weight = case.random.normal(size=(width, before.shape[1])).astype(np.float32) / 8
        views.append(case.step("linear", case.room((3, width), True), [before], weight=weight, element="relu"))
    case.check([each for each in views if case.random.random() < 0.5] or views[-1:])


def plain(**more):
    view = View.whole("x", (4,))
    step = {"op": "pointwise", "out": View.whole("y", (4,)), "inputs": (view,), **more}
    return TensorSpec({"x": TensorInput((4,))}, {"y": View.whole("y", (4,))}, [TensorStep(**step)], {"y": 4})


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": ()},
        {"element": "add"},
        {"element": "unheard-of"},
        {"inputs": (View("x", 1, (4,), (1,)),)},
        {"inputs": (View("x", 0, (4,), (-1,)),)},
        {"inputs": (View.whole("z", (4,)),)},
        {"out": View.whole("x", (4,))},
        {"op": "linear", "weight": np.zeros((4, 3), np.float32)},
    ],
)
def test_a_step_that_does_not_fit_is_refused(wrong):
    with pytest.raises(InputError):
        TensorProgram(plain(**wrong))


def test_inputs_of_another_type_or_size_are_refused():
    program = TensorProgram(plain())
    values = np.arange(4, dtype=np.float32)
    assert np.array_equal(program.run([values[None]], 1)[0], values)
    for wrong in (values[None, ::2], values.astype(np.float64), values[:3], values > 0):
        with pytest.raises(InputError, match="is given"):
            program.run([wrong], 1)
    with pytest.raises(InputError, match="is given"):
        program.run([values[None]], 2)


def test_one_request_s_inputs_may_stand_in_a_few_arrays():
    random = np.random.default_rng(0)
    inputs = {"a": TensorInput((3,)), "b": TensorInput((2, 2)), "c": TensorInput((4,), truths=True)}
    views = {name: View.whole(name, each.shape) for name, each in inputs.items()}
    spec = TensorSpec(inputs, views, [], {})
    program = TensorProgram(spec)
    layout = FlatLayout([{"b": (2, 2), "other": (5,), "a": (3,)}, {"c": (4,)}])
    given_values = FlatValues(layout, [random.random(12, np.float32), random.random(4) > 0.5])
    for _ in range(2):
        expected = program.run([np.ascontiguousarray(given_values[name]) for name in inputs], 1)
        assert np.array_equal(program.run_flat(given_values), expected)
        layout = FlatLayout([{"a": (3,), "b": (2, 2)}, {"c": (4,)}])
        given_values = FlatValues(layout, [random.random(7, np.float32), random.random(4) > 0.5])


@given(seed=seeds, rows=st.integers(1, 5), together=st.integers(1, 3))
def test_rows_of_inputs_may_stand_in_a_few_arrays(seed, rows, together):
    random = np.random.default_rng(seed)
    inputs = {"a": TensorInput((together, 3)), "b": TensorInput((together,))}
    inputs["c"] = TensorInput((together, 4), truths=True)
    spec = TensorSpec(inputs, {name: View.whole(name, each.shape) for name, each in inputs.items()}, [], {})
    program = TensorProgram(spec)
    layout = FlatLayout([{"b": (), "other": (5,), "a": (3,)}, {"c": (4,)}])
    count = rows * together
    given_values = FlatValues(layout, [random.random(9 * count, np.float32), random.random(4 * count) > 0.5], count)
    assert [given_values[name].shape for name in inputs] == [(count, 3), (count,), (count, 4)]
    columns = [np.ascontiguousarray(given_values[name]).reshape(rows, *each.shape) for name, each in inputs.items()]
    assert np.array_equal(program.run_flat(given_values, rows), program.run(columns, rows))
    with pytest.raises(InputError, match="is given"):
        program.run_flat(FlatValues(layout, [given_values.parts[0][:-1], given_values.parts[1]], count), rows)


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ([{"y": (4,)}], [np.zeros(4, np.float32)]),
        ([{"x": (4,)}], [np.zeros(3, np.float32)]),
        ([{"before": (1,), "x": (4,)}], [np.zeros(4, np.float32)]),
        ([{"x": (4,)}], [np.zeros(4)]),
        ([{"x": (4,)}], [np.zeros(8, np.float32)[::2]]),
        ([{"x": (4,)}], []),
    ],
)
def test_parts_that_do_not_hold_the_inputs_are_refused(layout, parts):
    with pytest.raises(InputError, match="is given"):
        TensorProgram(plain()).run_flat(FlatValues(FlatLayout(layout), parts))


def test_threads_share_a_program():
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    view, out = View.whole("x", (8, 64)), View.whole("y", (8, 64))
    steps = [TensorStep("linear", out, (view,), weight=weight), TensorStep("softmax", out, (out,))]
    program = TensorProgram(TensorSpec({"x": TensorInput((8, 64))}, {"y": out}, steps, {"y": 512}))
    given_values = np.random.default_rng(1).normal(size=(4, 8, 64)).astype(np.float32)
    alone = [program.run([each[None]], 1) for each in given_values]
    wrong = []

    def ask(number):
        for _ in range(200):
            if not np.array_equal(program.run([given_values[number][None]], 1), alone[number]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
