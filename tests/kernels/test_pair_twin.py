"""The twin's own arithmetic: PyTorch's functions, the unsplit attention, and errors that quantisation may make."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram, StoredRows
from bowerbird.kernels.pair_activation import activation_of
from bowerbird.kernels.pair_precision import product, product_precision, quantised_rows, quantised_weight
from bowerbird.kernels.pair_rows import from_bfloat16, to_bfloat16
from bowerbird.kernels.pair_twin import PairTwin
from tests.kernels.pair_cases import Case

X = torch.linspace(-6, 6, 400)[:, None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("relu", torch.relu),
        ("gelu", functional.gelu),
        ("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("silu", functional.silu),
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("softplus", functional.softplus),
        ({"op": "elu", "alpha": 0.5}, lambda x: functional.elu(x, 0.5)),
        ({"op": "leaky_relu", "slope": 0.2}, lambda x: functional.leaky_relu(x, 0.2)),
        ({"op": "clamp", "min": -1.0}, lambda x: x.clamp(min=-1.0)),
        ("square", torch.square),
        ({"op": "prelu", "slope": "slope"}, lambda x: functional.prelu(x, torch.tensor([0.3]))),
    ],
)
def test_functions_are_pytorchs(given, expected):
    found = activation_of(given, 1, {"slope": np.array([0.3], np.float32)})(X.numpy())
    assert np.allclose(found, expected(X).numpy(), atol=2e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 20), st.booleans())
def test_split_attention_is_the_unsplit_one(seed, width, length, softmax):
    case = Case(seed, 6)
    full, bias = torch.from_numpy(case.normal(5, 4 * width)), torch.from_numpy(case.normal(5))
    of_query, of_key, of_difference, of_product = full.split(width, dim=1)
    query = torch.from_numpy(case.items[case.item("q", width)])
    history = torch.from_numpy(case.request[case.sequence("h", length, width)])
    case.item("part", 5)
    case.items["part"] = (query @ (of_query + of_difference).T).numpy()
    case.sequence("hp", length, 5)
    case.request["hp"] = (history @ (of_key - of_difference).T + bias).numpy()
    case.weights["p"] = np.ascontiguousarray(of_product.numpy())
    layers = [{"weight": case.weight("w", 1, 5), "bias": case.weight("b", 1)}]
    case.step(
        "target_attention", "out", ["q", "part"], history="h", history_part="hp", product="p", activation="sigmoid",
        layers=layers, softmax=softmax,
    )  # fmt: skip
    case.spec["outputs"] = ["out"]
    keys, queries = history.expand(6, -1, -1), query[:, None].expand(-1, length, -1)
    z = torch.sigmoid(torch.cat([queries, keys, queries - keys, queries * keys], 2) @ full.T + bias)
    scores = (z @ torch.from_numpy(case.weights["w"]).T + torch.from_numpy(case.weights["b"]))[:, :, 0]
    expected = (torch.softmax(scores, 1) if softmax else scores) @ history
    assert np.allclose(case.answers(PairTwin)["out"], expected.numpy(), atol=2e-4)


def test_dot_product_attention_is_pytorchs():
    case = Case(0, 9)
    case.item("q", 8)
    case.sequence("k", 12, 8)
    case.sequence("v", 12, 8)
    case.step("attention", "out", ["q"], keys="k", values="v", heads=2, scale=0.5)
    case.spec["outputs"] = ["out"]
    parts = [case.items["q"], case.request["k"], case.request["v"]]
    q, k, v = (torch.from_numpy(each).view(len(each), 2, 4).transpose(0, 1)[None] for each in parts)
    expected = functional.scaled_dot_product_attention(q, k, v, scale=0.5)[0].transpose(0, 1).reshape(9, 8)
    assert np.allclose(case.answers(PairTwin)["out"], expected.numpy(), atol=1e-5)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 30), st.floats(0.01, 100), st.floats(-50, 50))
def test_quantised_rows_are_within_half_a_step(seed, width, spread, shift):
    x = (np.random.default_rng(seed).normal(size=(7, width)) * spread + shift).astype(np.float32)
    steps, scale, zero = quantised_rows(x)
    back = (steps.astype(np.float32) - zero[:, None]) * scale[:, None]
    assert np.all(np.abs(back - x) <= scale[:, None] * 0.51 + 1e-5 * np.abs(x))
    assert np.all(quantised_rows(np.abs(x))[2] == 0)
    whole, weight_scale = quantised_weight(x)
    assert np.abs(whole).max() == 127
    assert np.all(np.abs(whole * weight_scale[:, None] - x) <= weight_scale[:, None] * 0.51)


def test_rows_and_weights_of_nothing_stay_nothing():
    nothing, ones = np.zeros((3, 64), np.float32), np.ones((8, 64), np.float32)
    assert np.all(product(nothing, ones, "int8") == 0)
    assert np.all(product(ones, nothing, "int8") == 0)


@settings(max_examples=50)
@given(st.floats(width=32, allow_nan=True, allow_infinity=True))
def test_bfloat16_is_pytorchs(value):
    x = np.array([value], np.float32)
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    assert np.array_equal(from_bfloat16(to_bfloat16(x)), expected, equal_nan=True)


@pytest.mark.parametrize(("kind", "error"), [("fp32", 0), ("fp16", 6e-4), ("bf16", 4e-3), ("int8", 1 / 250)])
def test_stored_rows_come_back(kind, error):
    matrix = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    matrix[3] = 0
    rows = np.array([39, 0, 3, 3], np.int64)
    back = StoredRows.pack(matrix, kind).unpacked(rows)
    assert np.all(np.abs(back - matrix[rows]) <= error * np.abs(matrix[rows]).max(axis=1, keepdims=True))


def test_precision_follows_the_shape():
    assert product_precision("int8", 64, 8) == "int8"
    assert product_precision("int8", 63, 8) == "bf16"
    assert product_precision("bf16", 500, 7) == "fp32"
    with pytest.raises(InputError, match="fp8"):
        product_precision("fp8", 1, 1)


def refused(change, match, engine=PairProgram):
    case = Case(0, 3)
    case.item("x", 4)
    case.row("u", 4)
    case.sequence("h", 5, 4)
    case.linear("y", ["x"], 8)
    case.spec["outputs"] = ["y"]
    change(case)
    with pytest.raises(InputError, match=match):
        case.answers(engine)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda case: case.step("liner", "z", ["y"]), "Did you mean 'linear'"),
        (lambda case: case.step("relu", "z", ["nothing"]), "'nothing'"),
        (lambda case: case.step("relu", "z", ["h"]), "'h'"),
        (lambda case: case.step("relu", "x", ["y"]), "taken"),
        (lambda case: case.step("add", "z", ["x", "y"]), r"widths \[4, 8\]"),
        (lambda case: case.step("slice", "z", ["x"], start=2, stop=5), "2:5 of 4"),
        (lambda case: case.step("linear", "z", ["x", "y"], weight="y.weight"), r"\(8, 4\)"),
        (lambda case: case.step("linear", "z", ["x"], weight="lost"), "'lost'"),
        (lambda case: case.step("linear", "z", ["x"], weight="y.weight", activation="rely"), "'rely'"),
        (lambda case: case.step("linear", "z", ["x"], weight="y.weight", add=["u"]), "adds 'u' of width 4"),
        (lambda case: case.step("attention", "z", ["y"], keys="h", values="h"), "8 and 4|1 heads"),
        (lambda case: case.step("attention", "z", ["x"], keys="u", values="h"), "keys 'u'"),
        (lambda case: case.step("reduce", "z", ["x"], kind="sum", group=3), "4 columns by 3"),
        (lambda case: case.spec["outputs"].append("h"), "Output 'h'"),
        (lambda case: case.items.pop("x"), "Input 'x'"),
        (lambda case: case.request.update(u=np.zeros(5, np.float32)), r"'u' is float32 \(5,\)"),
        (lambda case: case.request.update(u=np.zeros(4)), "'u' is float64"),
        (lambda case: case.items.update(x=np.zeros((2, 4), np.float32)), r"'x' is float32 \(2, 4\)"),
        (
            lambda case: case.items.update(
                x=(StoredRows.pack(np.zeros((2, 4), np.float32), "bf16"), np.array([0, 1, 2], np.int64))
            ),
            "rows 0 to 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, match):
    refused(change, match)
    refused(change, match, PairTwin)


def test_programs_and_stores_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="0 threads"):
        PairProgram({"inputs": [], "steps": [], "outputs": []}, {}, threads=0)
    with pytest.raises(InputError, match="uint8"):
        StoredRows("fp32", np.zeros((1, 1), np.uint8))
    with pytest.raises(InputError, match="int8 has scales"):
        StoredRows("int8", np.zeros((1, 1), np.int8))
