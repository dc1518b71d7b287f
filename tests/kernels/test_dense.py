"""Cross layers, linear layers, narrow ones too, and hidden ones: the native passes are their NumPy twins."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import _native
from bowerbird.kernels import dense as twin

shapes = st.tuples(st.integers(1, 200), st.integers(1, 130))
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-5, "bfloat16": 8e-3}


def values_of(shape, seed, dtype="float32"):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=shape).astype(np.float32)).to(TYPES[dtype])


def numpy_of(values):
    return None if values is None else values.float().numpy()


def assert_near(found, expected, dtype="float32"):
    assert np.allclose(numpy_of(found), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(list(TYPES)), st.integers(0, 2**30), st.integers(1, 3), st.booleans())
def test_a_cross_layer_is_the_twin(shape, dtype, seed, threads, lowered):
    first, crossed, product = values_of(shape, seed), values_of(shape, seed + 1), values_of(shape, seed + 2, dtype)
    found, low = torch.empty_like(first), torch.empty_like(product)
    _native.cross_forward(first, product, crossed, found, low if lowered else None, threads)
    assert_near(found, twin.cross_forward(first.numpy(), numpy_of(product), crossed.numpy()))
    if lowered:
        assert torch.equal(low, found.to(low.dtype))


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(list(TYPES)), st.integers(0, 2**30), st.integers(1, 3), st.tuples(*[st.booleans()] * 3))
def test_a_cross_layers_gradients_are_the_twins(shape, dtype, seed, threads, given_back):
    first, product = values_of(shape, seed), values_of(shape, seed + 1, dtype)
    every = values_of(shape, seed + 2), values_of(shape, seed + 3, dtype), values_of(shape, seed + 4)
    back = [values if there else None for values, there in zip(every, given_back, strict=True)]
    found = torch.empty_like(first), torch.empty_like(product), torch.empty_like(first)
    _native.cross_backward(first, product, *back, *found, threads)
    expected = twin.cross_backward(first.numpy(), numpy_of(product), *map(numpy_of, back))
    for left, right, kind in zip(found, expected, ("float32", dtype, "float32"), strict=True):
        assert_near(left, right, kind)


PARTS = st.lists(st.tuples(st.integers(1, 130), st.sampled_from(list(TYPES))), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), PARTS, st.integers(1, 4), st.integers(0, 2**30), st.integers(1, 3), st.booleans())
def test_a_narrow_layer_of_parts_is_the_twin(rows, given, outputs, seed, threads, biased):
    parts = [values_of((rows, width), seed + at, dtype) for at, (width, dtype) in enumerate(given)]
    x = np.concatenate([numpy_of(part) for part in parts], axis=1)
    weights, gradient = values_of((outputs, x.shape[1]), seed + 7), values_of((rows, outputs), seed + 8)
    bias = values_of(outputs, seed + 9) if biased else None
    out = torch.full((rows, outputs), np.nan)
    _native.narrow_forward(parts, weights, bias, out, threads)
    begun = np.zeros((rows, outputs), np.float32) + (bias.numpy() if biased else 0.0)
    assert np.allclose(out.numpy(), twin.narrow_forward(x, weights.numpy(), begun), rtol=1e-4, atol=1e-4)
    of_parts, of_weights = [torch.full_like(part, np.nan) for part in parts], torch.full_like(weights, np.nan)
    of_bias = torch.full((outputs,), np.nan) if biased else None
    _native.narrow_backward(parts, weights, gradient, of_parts, of_weights, of_bias, threads)
    expected_inputs, expected_weights = twin.narrow_backward(x, weights.numpy(), gradient.numpy())
    if biased:
        assert np.allclose(of_bias.numpy(), gradient.numpy().sum(axis=0, dtype=np.float64), atol=1e-5)
    first = 0
    for of_part, (width, dtype) in zip(of_parts, given, strict=True):
        assert_near(of_part, expected_inputs[:, first : first + width], dtype)
        first += width
    assert np.allclose(of_weights.numpy(), expected_weights, rtol=1e-4, atol=1e-3)


LAYERS = [(1, 1, 9), (33, 100, 100), (70, 66, 64), (64, 64, 32), (1100, 40, 17), (2100, 16, 16), (31, 33, 47)]


@pytest.mark.parametrize("dtype", list(TYPES))
@pytest.mark.parametrize(("rows", "inputs", "outputs"), LAYERS)
def test_a_linear_layer_is_the_twin(tiles, rows, inputs, outputs, dtype):
    x, weights = values_of((rows, inputs), 1, dtype), values_of((outputs, inputs), 2)
    gradient, bias = values_of((rows, outputs), 3, "bfloat16"), values_of(outputs, 4)
    for added in (bias, None):
        out = torch.full((rows, outputs), np.nan, dtype=torch.bfloat16)
        _native.linear_forward(x, weights, added, out, 2)
        expected = twin.linear_forward(numpy_of(x), weights.numpy(), numpy_of(added))
        assert np.allclose(numpy_of(out), expected, rtol=0.01, atol=0.01)
    of_x = torch.full_like(x, np.nan)
    _native.linear_input_gradient(gradient, weights, of_x, 2)
    expected = twin.linear_input_gradient(numpy_of(gradient), weights.numpy())
    assert np.allclose(numpy_of(of_x), expected, rtol=TOLERANCE[dtype], atol=1e-4 + TOLERANCE[dtype])
    of_weights, of_bias = torch.full_like(weights, np.nan), torch.full_like(bias, np.nan)
    _native.linear_weight_gradient(gradient, x, of_weights, of_bias, 2)
    expected, expected_bias = twin.linear_weight_gradient(numpy_of(gradient), numpy_of(x))
    assert np.allclose(of_weights.numpy(), expected, rtol=1e-4, atol=2e-3)
    assert np.allclose(of_bias.numpy(), expected_bias, rtol=1e-4, atol=2e-3)


def test_threads_do_not_change_a_linear_layers_bits(tiles):
    x, weights, gradient = values_of((5000, 70), 0), values_of((50, 70), 1), values_of((5000, 50), 2, "bfloat16")
    results = []
    for threads in (1, 2, 5):
        out, of_x = torch.empty(5000, 50, dtype=torch.bfloat16), torch.empty_like(x)
        of_weights, of_bias = torch.empty_like(weights), torch.empty(50)
        _native.linear_forward(x, weights, None, out, threads)
        _native.linear_input_gradient(gradient, weights, of_x, threads)
        _native.linear_weight_gradient(gradient, x, of_weights, of_bias, threads)
        results.append(b"".join(part.float().numpy().tobytes() for part in (out, of_x, of_weights, of_bias)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("rows", "width", "layers"), [(1, 9, 1), (70, 100, 4), (300, 64, 2), (33, 130, 3)])
def test_a_cross_network_is_the_twins_layers(tiles, rows, width, layers):
    first, gradient, elsewhere = (values_of((rows, width), seed) for seed in (0, 1, 30))
    weights = [values_of((width, width), 2 + layer) / np.float32(np.sqrt(width)) for layer in range(layers)]
    biases = [values_of(width, 20 + layer) for layer in range(layers)]
    given, products = (torch.full((layers * rows, width), np.nan, dtype=torch.bfloat16) for _ in range(2))
    out, of_first = torch.full_like(first, np.nan), torch.full_like(first, np.nan)
    of_weights = [torch.full_like(each, np.nan) for each in weights]
    of_biases = [torch.full_like(each, np.nan) for each in biases]
    _native.cross_network_forward(first, weights, biases, given, products, out, 2)
    _native.cross_network_backward(
        first, weights, biases, given, products, gradient, elsewhere, of_first, of_weights, of_biases, 2
    )
    crossed, steps = first.numpy(), []
    for weight, bias in zip(weights, biases, strict=True):
        product = twin.rounded(twin.linear_forward(crossed, weight.numpy(), bias.numpy()))
        steps.append((crossed, product))
        crossed = twin.cross_forward(first.numpy(), product, crossed)
    assert_close(out, crossed)
    back, later = gradient.numpy(), elsewhere.numpy()
    for layer in reversed(range(layers)):
        before, product = steps[layer]
        back, of_product, later = twin.cross_backward(first.numpy(), product, back, None, later)
        of_product = twin.rounded(of_product)
        expected, expected_bias = twin.linear_weight_gradient(of_product, before)
        assert_close(of_weights[layer], expected)
        assert_close(of_biases[layer], expected_bias)
        back = back + twin.linear_input_gradient(of_product, weights[layer].numpy())
    assert_close(of_first, back + later)


def assert_close(found, expected):
    assert np.allclose(numpy_of(found), expected, rtol=0.02, atol=0.02 * float(np.abs(expected).max()))


class HiddenLayers:
    """Hidden layers with room for what the native pass keeps, and for gradients."""

    def __init__(self, rows, widths, normalised):
        self.parameters, self.kept = [], []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            columns = [values_of(outputs, seed + number) for seed in (20, 30, 40)]
            weights = values_of((outputs, inputs), 10 + number) / float(np.sqrt(inputs))
            self.parameters.append([weights, *(columns if normalised else [columns[0], None, None])])
            words = (outputs + 31) // 32
            values = torch.full((rows, 32 * words), np.nan, dtype=torch.bfloat16)
            moments = [torch.empty(outputs), torch.empty(outputs)] if normalised else [None, None]
            self.kept.append([values, torch.empty(rows, words, dtype=torch.int32), *moments])
        self.gradients = [
            [None if each is None else torch.full_like(each, np.nan) for each in layer] for layer in self.parameters
        ]

    def given(self):
        numbered = enumerate(zip(self.parameters, self.kept, strict=True))
        return [(*parameters, *kept, 7 + number) for number, (parameters, kept) in numbered]

    def run(self, x, gradient, keep, threads):
        out, of_x = torch.full_like(gradient, np.nan), torch.full_like(x, np.nan)
        _native.mlp_forward(x, self.given(), keep, 1e-5, out, threads)
        of_layers = [tuple(layer) for layer in self.gradients]
        _native.mlp_backward(x, self.given(), keep, 1e-5, gradient, of_x, of_layers, threads)
        return [out, of_x, *(each for layer in self.gradients for each in layer if each is not None)]

    def one_by_one(self, x, gradient, keep):
        """Return the same, by the passes of single layers."""
        steps, out = [], x
        for (weights, bias, gain, offset), number in zip(self.parameters, range(7, 99), strict=False):
            values = torch.empty(len(x), len(weights), dtype=torch.bfloat16)
            _native.linear_forward(out, weights, bias, values)
            mean, inverse, scale, shift = None, None, None, None
            if gain is not None:
                mean, variance = torch.empty_like(gain), torch.empty_like(gain)
                _native.column_moments(values, mean, variance)
                inverse = (variance + 1e-5).rsqrt()
                scale, shift = gain * inverse, offset - mean * gain * inverse
            result = torch.empty_like(values)
            _native.hidden_forward(values, result, scale, shift, keep, number)
            steps.append((out, values, result, mean, inverse))
            out = result
        found = [[torch.empty_like(each) for each in layer if each is not None] for layer in self.parameters]
        for (weights, _, gain, _), (before, values, result, mean, inverse), of_layer in zip(
            self.parameters[::-1], steps[::-1], found[::-1], strict=True
        ):
            back, norm = torch.empty_like(values), of_layer[2:] or [None, None]
            _native.hidden_backward(values, result, gradient, back, mean, inverse, gain, *norm, keep)
            _native.linear_weight_gradient(back, before, *of_layer[:2])
            gradient = torch.empty_like(before)
            _native.linear_input_gradient(back, weights, gradient)
        return [out, gradient, *(each for layer in found for each in layer)]


@pytest.mark.parametrize("dtype", list(TYPES))
@pytest.mark.parametrize("keep", [1.0, 0.7])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("widths", [(5, 9), (33, 47, 20), (70, 64, 64, 64)])
@pytest.mark.parametrize("rows", [1, 33, 300])
def test_hidden_layers_are_single_layers_passes(tiles, rows, widths, normalised, keep, dtype):
    layers = HiddenLayers(rows, widths, normalised)
    x, gradient = values_of((rows, widths[0]), 1, dtype), values_of((rows, widths[-1]), 2, "bfloat16")
    found, expected = layers.run(x, gradient, keep, 2), layers.one_by_one(x, gradient, keep)
    for left, right in zip(found, expected, strict=True):
        assert_same_but_for_few(numpy_of(left), numpy_of(right))


def assert_same_but_for_few(found, expected):
    """A value that rounds to the other side of zero is another element's gradient; there are few of those."""
    assert np.isfinite(found).all()
    off = np.abs(found - expected)
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.quantile(off, 0.9) <= 0.05 * scale and float(off.max()) <= 0.3 * scale


def test_threads_do_not_change_hidden_layers_bits(tiles):
    x, gradient = values_of((5000, 40), 0), values_of((5000, 33), 2, "bfloat16")
    results = []
    for threads in (1, 2, 5):
        found = HiddenLayers(5000, (40, 33, 33, 33), True).run(x, gradient, 0.8, threads)
        results.append(b"".join(part.float().numpy().tobytes() for part in found))
    assert results[0] == results[1] == results[2]


def test_hidden_layers_that_do_not_fit_are_refused(tiles):
    x, gradient = values_of((40, 5), 0), values_of((40, 9), 1, "bfloat16")
    layers = HiddenLayers(40, (5, 9), True)
    (weights, bias, gain, offset, values, kept, mean, variance, seed) = layers.given()[0]
    wrong = [
        (weights[:, :4].contiguous(), bias, gain, offset, values, kept, mean, variance, seed),
        (weights, bias[1:], gain, offset, values, kept, mean, variance, seed),
        (weights, bias, None, offset, values, kept, mean, variance, seed),
        (weights, bias, gain, offset, values[:, :9].contiguous(), kept, mean, variance, seed),
        (weights, bias, gain, offset, values, kept[1:], mean, variance, seed),
    ]
    for layer in wrong:
        with pytest.raises(ValueError, match=r"fit|shape|width|normalised"):
            _native.mlp_forward(x, [layer], 1.0, 1e-5, gradient)
    with pytest.raises(ValueError, match="no layers"):
        _native.mlp_forward(x, [], 1.0, 1e-5, gradient)
    with pytest.raises(ValueError, match="keeps nothing"):
        _native.mlp_forward(x, layers.given(), 0.0, 1e-5, gradient)
    with pytest.raises(ValueError, match="other layers"):
        _native.mlp_backward(x, layers.given(), 1.0, 1e-5, gradient, torch.empty_like(x), [])


def test_pytorchs_own_tiles_work_beside_ours(tiles):
    x, weights = values_of((256, 64), 0, "bfloat16"), values_of((64, 64), 1)
    expected = x @ weights.bfloat16().T
    ours = twin.linear_forward(numpy_of(x), weights.numpy(), None)
    for _ in range(3):
        out = torch.empty(256, 64, dtype=torch.bfloat16)
        _native.linear_forward(x, weights, None, out, 1)
        assert np.allclose(numpy_of(out), ours, rtol=0.01, atol=0.01)
        assert torch.equal(x @ weights.bfloat16().T, expected)


def test_a_linear_layer_that_does_not_fit_is_refused(tiles):
    x, weights, out = torch.ones(4, 3), torch.ones(2, 3), torch.empty(4, 2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="do not fit"):
        _native.linear_forward(x, torch.ones(2, 4), None, out)
    with pytest.raises(ValueError, match="not bfloat16"):
        _native.linear_forward(x, weights, None, torch.empty(4, 2))
    with pytest.raises(ValueError, match="width"):
        _native.linear_forward(x, weights, torch.ones(3), out)
    with pytest.raises(ValueError, match="differ in shape"):
        _native.linear_input_gradient(torch.empty(3, 2, dtype=torch.bfloat16), weights, x)


def test_many_rows_and_wide_layers_are_added_up_in_blocks(tiles):
    for rows, inputs, outputs in ((70_001, 9, 9), (4_100, 800, 700)):
        x, gradient = values_of((rows, inputs), 0, "bfloat16"), values_of((rows, outputs), 1, "bfloat16")
        found = []
        for threads in (1, 3):
            of_weights, of_bias = torch.empty(outputs, inputs), torch.empty(outputs)
            _native.linear_weight_gradient(gradient, x, of_weights, of_bias, threads)
            found.append(of_weights)
        expected, _ = twin.linear_weight_gradient(numpy_of(gradient), numpy_of(x))
        assert torch.equal(*found)
        assert np.allclose(found[0].numpy(), expected, rtol=1e-3, atol=1e-2 * np.sqrt(rows / 1000))


def test_an_output_of_another_type_is_refused():
    x, weights = torch.ones(4, 3), torch.ones(1, 3)
    with pytest.raises(TypeError):
        _native.narrow_forward([x], weights, None, torch.zeros(4, 1, dtype=torch.float64))
    with pytest.raises(TypeError):
        _native.narrow_backward([x], weights, torch.ones(4, 1), [x.clone()], torch.empty(1, 3).bfloat16(), None)


def test_without_tile_registers_a_linear_layer_is_refused(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_ISA", "generic")
    assert not _native.has_tiles()
    with pytest.raises(ValueError, match="tile registers"):
        _native.linear_forward(torch.ones(4, 3), torch.ones(2, 3), None, torch.empty(4, 2, dtype=torch.bfloat16))


def test_threads_do_not_change_a_bit():
    x, weights, gradient = values_of((1000, 45), 0, "bfloat16"), values_of((2, 45), 1), values_of((1000, 2), 2)
    results = []
    for threads in (1, 2, 5):
        out, of_x, of_weights = torch.zeros(1000, 2), torch.empty_like(x), torch.empty_like(weights)
        _native.narrow_forward([x], weights, None, out, threads)
        _native.narrow_backward([x], weights, gradient, [of_x], of_weights, None, threads)
        results.append(b"".join(part.float().numpy().tobytes() for part in (out, of_x, of_weights)))
    assert results[0] == results[1] == results[2]


def test_what_does_not_fit_is_refused():
    x, other = torch.ones(2, 3), torch.ones(3, 2)
    with pytest.raises(ValueError, match="differ in shape"):
        _native.cross_forward(x, x, other, torch.empty(2, 3), None)
    with pytest.raises(ValueError, match="differ in shape"):
        _native.cross_backward(x, x, other, None, None, x, x, x)
    with pytest.raises(ValueError, match="do not fit"):
        _native.narrow_forward([x, x], torch.ones(1, 5), None, torch.ones(2, 1))
    with pytest.raises(ValueError, match="do not fit"):
        _native.narrow_forward([], torch.ones(1, 3), None, torch.ones(2, 1))
    with pytest.raises(ValueError, match="differ in shape"):
        _native.narrow_forward([x, torch.ones(3, 3)], torch.ones(1, 6), None, torch.ones(2, 1))
    with pytest.raises(ValueError, match="the width"):
        _native.narrow_forward([x], torch.ones(1, 3), torch.ones(2), torch.ones(2, 1))
    with pytest.raises(ValueError, match="other parts"):
        _native.narrow_backward([x], torch.ones(1, 3), torch.ones(2, 1), [], torch.ones(1, 3), None)
    with pytest.raises(ValueError, match="differ in"):
        _native.follow([torch.ones(2)], [torch.ones(3)], 0.1)
    with pytest.raises(ValueError, match="differ in"):
        _native.follow([torch.ones(2)], [], 0.1)
