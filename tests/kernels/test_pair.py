"""The native pair program is its NumPy twin: every step, precision and instruction set, any number of candidates."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bowerbird.bundles.host import this_host
from bowerbird.errors import InputError
from bowerbird.kernels.pair import EMULATED, PairProgram
from bowerbird.kernels.pair_precision import product_precision
from bowerbird.kernels.pair_twin import PairTwin
from tests.kernels.pair_cases import ACTIVATIONS, WITH_FIELDS, Case

TOLERANCE = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.03}
counts = st.sampled_from([0, 1, 2, 11, 12, 13, 24, 47, 48, 49, 100, 203])
seeds = st.integers(0, 2**31)
widths = st.integers(1, 70)


def check(case, precision="fp32"):
    found, expected = case.answers(PairProgram, precision), case.answers(PairTwin, precision)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape and found[name].dtype == np.float32
        scale = max(1.0, float(np.abs(values).max(initial=0.0)))
        error = float(np.abs(found[name] - values).max(initial=0.0)) / scale
        assert error < TOLERANCE[precision], (case.spec["steps"], precision, error)


properties = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@properties
@given(
    seeds,
    counts,
    st.lists(widths, min_size=1, max_size=4),
    st.integers(1, 150),
    st.integers(0, 100),
    st.sampled_from(["fp32", "bf16", "int8"]),
    st.lists(st.sampled_from(["row", "dense", "fp32", "fp16", "bf16", "int8"]), max_size=3),
)
def test_linear(isa, seed, count, inputs, width, number, precision, adds):
    case = Case(seed, count)
    names = [case.item(f"x{i}", each) for i, each in enumerate(inputs)]
    names.append(case.row("u", 5))
    terms = [
        case.row(f"a{i}", width) if kind == "row" else case.item(f"a{i}", width, None if kind == "dense" else kind)
        for i, kind in enumerate(adds)
    ]
    case.linear("y", names, width, activation=case.activation(number, width), add=terms)
    case.linear("z", ["y", "x0"], 9)
    case.spec["outputs"] = ["y", "z", "x0"]
    check(case, precision)


@properties
@given(seeds, counts, st.integers(8, 130), st.integers(1, 600), st.sampled_from(["bf16", "int8"]))
def test_products_of_whole_numbers_are_exact(isa, seed, count, outputs, inputs, precision):
    case = Case(seed, count)
    case.item("x", inputs)
    x = case.random.integers(-15, 16, (count, inputs))
    weight = case.random.integers(-7, 8, (outputs, inputs))
    if product_precision(precision, inputs, outputs) == "int8":  # steps of 1, for values as for weights
        x = case.random.integers(0, 255, (count, inputs))
        weight = case.random.integers(-127, 128, (outputs, inputs))
        x[:, 0], weight[:, 0] = 254, 127
    case.items["x"], case.weights["w"] = x.astype(np.float32), weight.astype(np.float32)
    case.spec["outputs"] = [case.step("linear", "y", ["x"], weight="w")]
    assert np.array_equal(case.answers(PairProgram, precision)["y"], (x @ weight.T).astype(np.float32))


@properties
@given(seeds, counts, st.lists(st.integers(1, 200), min_size=1, max_size=4), st.sampled_from(["fp32", "bf16", "int8"]))
def test_layers_one_after_another(isa, seed, count, sizes, precision):
    case = Case(seed, count)
    before = case.item("x", sizes[0], "bf16")
    for i, width in enumerate([*sizes, 1]):
        before = case.linear(f"y{i}", [before], width, activation="relu" if width > 1 else "sigmoid")
    case.spec["outputs"] = [before]
    check(case, precision)


@properties
@given(seeds, counts, widths, st.sampled_from(["add", "sub", "mul", "div", "maximum", "minimum"]), st.integers(0, 5))
def test_binary(isa, seed, count, width, op, broadcast):
    case = Case(seed, count)
    left = case.item("a", 1 if broadcast == 1 else width)
    right = case.row("b", width) if broadcast == 2 else case.item("b", 1 if broadcast == 3 else width)
    if op == "div":
        right = case.step("add", "c", [case.step("square", "s", [right]), case.row("one", 1)])
        case.request["one"] = np.ones(1, np.float32)
    case.spec["outputs"] = [case.step(op, "out", [left, right])]
    check(case)


@properties
@given(seeds, counts, widths, st.sampled_from(range(1, len(ACTIVATIONS))))
def test_unary(isa, seed, count, width, number):
    case = Case(seed, count)
    case.item("x", width)
    chosen = case.activation(number, width)
    fields = dict(chosen) if isinstance(chosen, dict) else {"op": chosen}
    case.spec["outputs"] = [case.step(fields.pop("op"), "y", ["x"], **fields)]
    check(case)


@properties
@given(seeds, st.sampled_from(["log", "sqrt", "rsqrt"]))
def test_unary_of_positive_numbers(isa, seed, op):
    case = Case(seed, 100)
    case.item("x", 7)
    case.items["x"] = np.exp(case.normal(100, 7) * 10).astype(np.float32)
    case.spec["outputs"] = [case.step(op, "y", ["x"])]
    found, expected = case.answers(PairProgram)["y"], case.answers(PairTwin)["y"]
    assert np.allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_functions_at_their_ends(isa):
    ends = np.array([[-np.inf, -1e30, -104, -88, -1e-40, 0, 1e-40, 88, 89, 1e30, np.inf, np.nan]], np.float32)
    for op in ("exp", "log", "sigmoid", "tanh", "softplus", "relu", "silu", "elu"):
        case = Case(0, 1)
        case.item("x", ends.shape[1])
        case.items["x"] = ends
        case.spec["outputs"] = [case.step(op, "y", ["x"])]
        with np.errstate(all="ignore"):
            expected = case.answers(PairTwin)["y"]
        found = case.answers(PairProgram)["y"]
        if op == "silu":
            expected[0, 0] = found[0, 0]  # -infinity times 0
        assert np.allclose(found, expected, rtol=2e-6, atol=2e-7, equal_nan=True), (op, found, expected)


@properties
@given(seeds, counts, st.integers(1, 6), st.integers(1, 30), st.sampled_from(["sum", "mean", "max"]), st.booleans())
def test_reductions(isa, seed, count, groups, group, kind, across):
    case = Case(seed, count)
    case.item("x", groups * group)
    case.weight("scale", groups * group)
    case.step("reduce", "r", ["x"], kind=kind, group=group, across=across)
    case.step("reduce", "whole", ["x"], kind=kind)
    case.step("softmax", "s", ["x"], group=group)
    case.step("layer_norm", "n", ["x"], weight="scale", bias=None, eps=1e-5)
    case.step("layer_norm", "m", ["x"], bias="scale", eps=0.1)
    case.spec["outputs"] = ["r", "whole", "s", "n", "m"]
    check(case)


@properties
@given(seeds, counts, st.integers(1, 5), widths, st.booleans())
def test_mixtures_and_products(isa, seed, count, experts, width, stacked):
    case = Case(seed, count)
    gates = case.item("gates", experts)
    names = [case.item("e", experts * width)] if stacked else [case.item(f"e{i}", width) for i in range(experts)]
    case.step("weighted_sum", "mix", [gates, *names])
    case.step("dot", "dot", ["mix", case.row("u", width)])
    case.step("field_dots", "pairs", [case.item("fields", 3 * width)], width=width)
    case.spec["outputs"] = ["mix", "dot", "pairs"]
    check(case)


@properties
@given(seeds, counts, st.lists(widths, min_size=1, max_size=3), st.integers(1, 90))
def test_columns_in_any_order(isa, seed, count, inputs, taken):
    case = Case(seed, count)
    names = [case.row(f"x{i}", width) if i == 1 else case.item(f"x{i}", width) for i, width in enumerate(inputs)]
    names[0] = case.step("relu", "r", [names[0]])
    places = case.random.integers(0, sum(inputs), taken).tolist()
    case.step("take", "y", names, places=places)
    case.step("take", "z", ["y"], places=list(range(taken - 1, -1, -1)))
    case.spec["outputs"] = ["y", "z"]
    check(case)


@properties
@given(seeds, counts, st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_products_of_matrices_of_each_candidate(isa, seed, count, batch, rows, inner, columns, turned):
    case = Case(seed, count)
    case.item("a", batch * rows * inner)
    case.row("b", batch * inner * columns) if turned else case.item("b", batch * inner * columns)
    left = [inner, batch * inner, 1] if turned else [rows * inner, inner, 1]
    right = [inner * columns, 1, inner] if turned else [inner * columns, columns, 1]
    case.step("product", "y", ["a", "b"], sizes=[batch, rows, inner, columns], left=left, right=right)
    case.step("product", "one", ["a", "b"], sizes=[1, rows, inner, columns], left=[0, inner, 1], right=[0, 0, 1])
    case.spec["outputs"] = ["y", "one"]
    check(case)


@properties
@given(seeds, counts, st.integers(1, 3), st.integers(1, 9), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9))
def test_fields_look_at_fields(isa, seed, count, heads, queries, keys, width, value_width):
    case = Case(seed, count)
    names = [case.item("q", heads * queries * width), case.item("k", heads * keys * width)]
    names.append(case.item("v", heads * keys * value_width))
    case.step("field_attention", "y", names, heads=heads, width=width, scale=0.7)
    case.step("field_attention", "z", ["k", "k", "v"], heads=heads, width=width)
    case.spec["outputs"] = ["y", "z"]
    check(case)


@properties
@given(seeds, counts, widths, st.integers(1, 30), st.integers(2, 5), st.sampled_from(["fp32", "bf16", "int8"]))
def test_one_layer_for_several_fields(isa, seed, count, width, outputs, fields, precision):
    case = Case(seed, count)
    case.item("x", fields * width)
    weight, bias = case.weight("weight", outputs, width), case.weight("bias", outputs)
    for field in range(fields):
        case.step("slice", f"s{field}", ["x"], start=field * width, stop=(field + 1) * width)
        case.step("linear", f"y{field}", [f"s{field}"], weight=weight, bias=bias, activation="relu")
    case.spec["outputs"] = [f"y{field}" for field in range(fields)]
    check(case, precision)


@properties
@given(seeds, counts, widths, st.sampled_from(["fp32", "bf16", "int8"]), st.integers(0, 9))
def test_cross_layers(isa, seed, count, width, precision, number):
    """Wang et al., DCN V2 (2021): x0 ⊙ (W x + b) + x, here with an activation and a term of the request, too."""
    case = Case(seed, count)
    case.item("x0", width)
    case.row("u", width)
    before = case.linear("y", [], width, add=["u", "x0"], times="x0", plus="u")
    for i in range(2):
        before = case.linear(
            f"y{i}", [before], width, add=["u"], times="x0", plus=before, activation=case.activation(number, width)
        )
    case.linear("z", [before], 9)
    case.spec["outputs"] = [before, "z"]
    check(case, precision)


def test_a_step_that_multiplies_and_adds_needs_both_and_something_to_work_on():
    for fields in ({"times": "x"}, {"plus": "x"}, {"times": "x", "plus": "thin"}):
        case = Case(0, 2)
        case.item("x", 3)
        case.item("thin", 1)
        case.linear("y", ["x"], 3, **fields)
        with pytest.raises(InputError, match="'y'"):
            PairProgram(case.spec, case.weights)
    case = Case(0, 2)
    case.linear("y", [], 3)
    with pytest.raises(InputError, match="of nothing"):
        PairProgram(case.spec, case.weights)


@properties
@given(seeds, counts, st.lists(widths, min_size=2, max_size=4), st.data())
def test_views(isa, seed, count, sizes, data):
    case = Case(seed, count)
    names = [case.item(f"x{i}", each) for i, each in enumerate(sizes)]
    total = sum(sizes)
    case.step("concat", "all", names)
    case.step("concat", "twice", ["all", case.row("u", 3), "x0"])
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    case.step("slice", "part", ["all"], start=start, stop=stop)
    case.weights["w"] = case.normal(11, stop - start + total + 3 + sizes[0])
    case.step("linear", "y", ["part", "twice"], weight="w")
    case.step("square", "z", ["part"])
    case.step("add", "again", ["y", "y"])
    case.spec["outputs"] = ["y", "part", "twice", "z", "again"]
    check(case)


@properties
@given(
    seeds,
    st.sampled_from([0, 1, 13, 50]),
    st.sampled_from([0, 1, 3, 16, 17, 40]),
    st.integers(1, 20),
    st.lists(st.integers(1, 90), max_size=2),
    st.sampled_from(["fp32", "bf16", "int8"]),
    st.sampled_from([0, 1, *range(len(ACTIVATIONS) - len(WITH_FIELDS), len(ACTIVATIONS))]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_target_attention(isa, seed, count, length, width, hidden, precision, number, masked, softmax, valued):
    case = Case(seed, count)
    first = 33
    case.item("q", width)
    case.item("part", first)
    case.sequence("h", length, width)
    case.sequence("hp", length, first)
    fields = {"mask": case.mask(length)} if masked else {}
    if valued:
        fields["values"] = case.sequence("v", length, 9)
    case.weight("p", first, width)
    layers, before = [], first
    for i, each in enumerate([*hidden, 1]):
        layers.append({"weight": case.weight(f"w{i}", each, before), "bias": case.weight(f"b{i}", each)})
        layers[-1]["activation"] = "sigmoid" if each > 1 else None
        before = each
    case.step(
        "target_attention", "out", ["q", "part"], history="h", history_part="hp", product="p", layers=layers,
        activation=case.activation(number, first), softmax=softmax, **fields,
    )  # fmt: skip
    case.spec["outputs"] = ["out"]
    check(case, precision)


@properties
@given(seeds, counts, st.sampled_from([0, 1, 15, 16, 35]), st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_attention(isa, seed, count, length, heads, width, masked):
    case = Case(seed, count)
    case.item("q", heads * width)
    case.sequence("k", length, heads * width)
    case.sequence("v", length, heads * 3)
    fields = {"mask": case.mask(length)} if masked else {}
    case.step("attention", "out", ["q"], keys="k", values="v", heads=heads, scale=0.3, **fields)
    case.spec["outputs"] = ["out"]
    check(case)


def ranker(count, length):
    case = Case(3, count)
    case.item("q", 16)
    case.item("qp", 80, "fp16")
    case.item("partial", 256, "bf16")
    case.row("up", 256)
    case.sequence("h", length, 16)
    case.sequence("hp", length, 80)
    layers = [
        {"weight": case.weight("w2", 40, 80), "bias": case.weight("b2", 40), "activation": "relu"},
        {"weight": case.weight("w3", 1, 40), "bias": case.weight("b3", 1)},
    ]
    case.weight("p", 80, 16)
    case.step(
        "target_attention", "s", ["q", "qp"], history="h", history_part="hp", product="p", activation="relu",
        mask=case.mask(length), layers=layers, width=16,
    )  # fmt: skip
    case.linear("y1", ["s"], 256, add=["up", "partial"], activation="relu")
    case.linear("y2", ["y1"], 64, activation="relu")
    case.linear("click", ["y2"], 1, activation="sigmoid")
    case.linear("like", ["y2", "s"], 3)
    case.spec["outputs"] = ["click", "like"]
    return case


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("count", [0, 1, 50, 5000])
def test_a_ranker(isa, precision, count):
    check(ranker(count, 100 if count < 100 else 5), precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_neither_threads_nor_companions_change_a_bit(isa, precision):
    case = ranker(500, 20)
    whole = case.answers(PairProgram, precision)
    for threads in (2, 3, 16):
        for name, values in case.answers(PairProgram, precision, threads).items():
            assert np.array_equal(values, whole[name])
    program = PairProgram(case.spec, case.weights, precision)
    for first, last in ((0, 1), (37, 60), (499, 500)):
        items = {
            name: (each[0], each[1][first:last]) if isinstance(each, tuple) else each[first:last]
            for name, each in case.items.items()
        }
        for name, values in program.run(case.request, items, last - first).items():
            assert np.array_equal(values, whole[name][first:last])


def test_a_large_request_is_split_and_a_small_one_is_not():
    case = ranker(700, 20)
    program = PairProgram(case.spec, case.weights, threads=4, least_rows=256)
    assert [program.threads(count) for count in (0, 255, 511, 512, 700, 5000)] == [1, 1, 1, 2, 2, 4]
    for name, values in program.run(case.request, case.items, case.count).items():
        assert np.array_equal(values, case.answers(PairProgram, "fp32")[name])


def test_programs_run_in_many_threads_at_once(isa):
    from concurrent.futures import ThreadPoolExecutor

    cases = [ranker(100 + 37 * i, 30) for i in range(4)]
    programs = [PairProgram(case.spec, case.weights, "int8", threads=2) for case in cases]
    expected = [case.answers(PairProgram, "int8") for case in cases]
    with ThreadPoolExecutor(8) as pool:
        jobs = [(i % 4, pool.submit(programs[i % 4].run, cases[i % 4].request, cases[i % 4].items, cases[i % 4].count))
                for i in range(40)]  # fmt: skip
        for i, job in jobs:
            assert np.array_equal(job.result()["click"], expected[i]["click"])


def test_the_best_instruction_set_is_chosen(monkeypatch):
    monkeypatch.delenv("BOWERBIRD_ISA", raising=False)
    best = PairProgram.isa()
    assert best != EMULATED
    monkeypatch.setenv("BOWERBIRD_ISA", best)
    assert PairProgram.isa() == best
    monkeypatch.setenv("BOWERBIRD_ISA", "mmx")
    with pytest.raises(InputError, match="mmx"):
        PairProgram.isa()


def test_amx_is_used_or_it_is_said_why_not(monkeypatch):
    monkeypatch.delenv("BOWERBIRD_ISA", raising=False)
    cpu = Path("/proc/cpuinfo")
    has_amx = cpu.is_file() and {"amx_tile", "amx_bf16", "amx_int8"} <= set(cpu.read_text().split())
    if has_amx:
        assert PairProgram.isa() == "amx" or PairProgram.unused_amx()
    if PairProgram.isa() != "amx":
        monkeypatch.setenv("BOWERBIRD_ISA", "amx")
        with pytest.raises(InputError, match="BOWERBIRD_ISA is 'amx', which this machine lacks"):
            PairProgram.isa()


def test_what_is_emulated_is_neither_measured_nor_a_host(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_ISA", EMULATED)
    with pytest.raises(InputError):
        PairProgram.peak("bf16")
    with pytest.raises(InputError, match="BOWERBIRD_ISA"):
        this_host()
