"""Target attention as one pass, forth and back, is its NumPy twin."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from bowerbird import _native
from bowerbird.kernels import attention as twin


def attention(rows, length, widths, meets, hidden, scaled=False, seed=0):
    """Return an attention whose events are there four times of five, one sample's not at all."""
    random = np.random.default_rng(seed)
    values = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    met = sum(width for width, meet in zip(widths, meets, strict=True) if meet >= 0)
    sizes = [sum(widths) + met, *hidden]
    mask = random.random((rows, length)) < 0.8
    mask[0] = rows == 1
    return twin.Attention(
        parts=[values(rows, length, width) for width in widths], meets=meets, mask=mask, query=values(rows, met),
        shift=values(rows, hidden[0]), scaled=scaled,
        weights=[values(after, before) / np.float32(np.sqrt(before)) for before, after in pairwise(sizes)],
        biases=[values(size) for size in hidden[1:]], score=values(1, hidden[-1]), score_bias=values(1),
    )  # fmt: skip


def tensors(arrays):
    return [torch.from_numpy(each) for each in arrays]


def arguments(given, rows=None):
    first = (given.mask, given.query, given.shift)
    scorer = (tensors(given.weights), tensors(given.biases), *tensors((given.score[0], given.score_bias)))
    rows = rows or [None] * len(given.parts)
    return (tensors(given.parts), rows, given.meets, *tensors(first), *scorer, given.scaled)


def empty_like(arrays):
    return [torch.full(each.shape, np.nan) for each in arrays]


def forth(given, threads=2, rows=None):
    out = torch.full((len(given.query), sum(part.shape[-1] for part in given.parts)), np.nan)
    _native.attention_forward(*arguments(given, rows), out, threads)
    return out


def back(given, gradient, threads=2, wanted=None, rows=None, of_parts=None):
    """Return the gradients in the order of ``AttentionGradients``, as one list; parts that are not wanted are None."""
    of_parts = of_parts or empty_like(given.parts)
    of_parts = [of if want else None for of, want in zip(of_parts, wanted or [True] * len(of_parts), strict=True)]
    of_query, of_shift, of_score, of_bias = empty_like((given.query, given.shift, given.score[0], given.score_bias))
    of_weights, of_biases = empty_like(given.weights), empty_like(given.biases)
    found = (of_parts, of_query, of_shift, of_weights, of_biases, of_score, of_bias)
    _native.attention_backward(*arguments(given, rows), torch.from_numpy(gradient), *found, threads)
    return [*of_parts, of_query, of_shift, *of_weights, *of_biases, of_score, of_bias]


def assert_close(found, expected):
    difference = np.abs(found.numpy() - expected.reshape(found.shape))
    assert float(difference.max(initial=0)) <= 0.02 * float(np.abs(expected).max(initial=1)), difference.max()


SHAPES = [
    (1, 1, [1], [0], (1,)),
    (130, 50, [16, 16, 2], [0, 16, -1], (64, 32)),
    (9, 7, [5, 8, 37, 2], [37, -1, 0, -1], (12,)),
    (3, 301, [40, 9], [0, -1], (70, 33, 20)),
]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("rows", "length", "widths", "meets", "hidden"), SHAPES)
def test_sums_and_gradients_are_the_twins(tiles, rows, length, widths, meets, hidden, scaled):
    given = attention(rows, length, widths, meets, hidden, scaled)
    assert_close(forth(given), twin.attention_forward(given))
    gradient = np.random.default_rng(1).normal(size=(rows, sum(widths))).astype(np.float32)
    expected = dataclasses.astuple(twin.attention_backward(given, gradient))
    flat = [each for part in expected for each in (part if isinstance(part, list) else [part])]
    for found, of in zip(back(given, gradient), flat, strict=True):
        assert_close(found, of)


def test_threads_do_not_change_a_bit(tiles):
    given = attention(300, 20, [16, 3], [0, -1], (33, 17))
    gradient = np.random.default_rng(1).normal(size=(300, 19)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        found = [forth(given, threads), *back(given, gradient, threads)]
        results.append(b"".join(each.numpy().tobytes() for each in found))
    assert results[0] == results[1] == results[2]


def test_a_gradient_that_is_not_wanted_changes_no_other(tiles):
    given = attention(20, 9, [16, 3], [0, -1], (8,))
    gradient = np.ones((20, 19), np.float32)
    every, some = back(given, gradient), back(given, gradient, wanted=[True, False])
    assert some[1] is None
    assert all(torch.equal(*pair) for pair in zip([every[0], *every[2:]], [some[0], *some[2:]], strict=True))


def test_events_that_are_not_there_are_not_read(tiles):
    given = attention(20, 9, [16, 3], [0, -1], (8,))
    gradient = np.ones((20, 19), np.float32)
    expected = [forth(given), *back(given, gradient)]
    for part in given.parts:
        part[~given.mask] = np.nan
    for found, before in zip([forth(given), *back(given, gradient)], expected, strict=True):
        assert torch.equal(found, before)


def of_tables(given, numbers=(0, 1), size=40):
    """Return the attention with some parts as rows of tables, which rows those are, and the attention of the events."""
    random = np.random.default_rng(3)
    parts, rows, events = list(given.parts), [None] * len(given.parts), list(given.parts)
    for number in numbers:
        parts[number] = random.normal(size=(size, given.parts[number].shape[2])).astype(np.float32)
        rows[number] = random.integers(0, size, given.mask.shape).astype(np.int32)
        events[number] = parts[number][rows[number]]
    return dataclasses.replace(given, parts=parts), rows, dataclasses.replace(given, parts=events)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "length", "widths", "meets", "hidden"), SHAPES[1:])
def test_events_in_tables_are_read_and_their_gradients_added_there(tiles, rows, length, widths, meets, hidden, threads):
    given, numbers, events = of_tables(attention(rows, length, widths, meets, hidden))
    gradient = np.random.default_rng(1).normal(size=(rows, sum(widths))).astype(np.float32)
    assert torch.equal(forth(given, threads, numbers), forth(events))
    before = [torch.ones(part.shape) for part in given.parts]
    found, expected = back(given, gradient, threads, None, numbers, before), back(events, gradient)
    for number, of_events in enumerate(expected[: len(widths)]):
        if numbers[number] is not None:
            total = np.ones_like(given.parts[number])
            np.add.at(total, numbers[number][given.mask], of_events.numpy()[given.mask])
            assert np.allclose(found[number], total, rtol=1e-4, atol=1e-4)
    others = [number for number, each in enumerate(numbers) if each is None] + list(range(len(widths), len(found)))
    assert all(torch.equal(found[number], expected[number]) for number in others)


def test_threads_do_not_change_a_bit_of_a_tables_gradient(tiles):
    given, numbers, _ = of_tables(attention(3000, 20, [16, 3], [0, -1], (33, 17)))
    gradient = np.random.default_rng(1).normal(size=(3000, 19)).astype(np.float32)
    results = [
        back(given, gradient, threads, None, numbers, [torch.zeros(part.shape) for part in given.parts])
        for threads in (1, 2, 5)
    ]
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


def test_a_tables_gradient_that_is_not_wanted_changes_no_other(tiles):
    given, numbers, _ = of_tables(attention(20, 9, [16, 3], [0, -1], (8,)))
    zeros = lambda: [torch.zeros(part.shape) for part in given.parts]  # noqa: E731
    gradient = np.ones((20, 19), np.float32)
    every = back(given, gradient, 2, None, numbers, zeros())
    some = back(given, gradient, 2, [True, False], numbers, zeros())
    assert some[1] is None
    assert all(torch.equal(*pair) for pair in zip([every[0], *every[2:]], [some[0], *some[2:]], strict=True))


@pytest.mark.parametrize(("row", "length", "reason"), [(40, 9, "beyond"), (-1, 9, "beyond"), (0, 8, "differ in shape")])
def test_rows_that_are_not_in_the_table_are_refused(row, length, reason):
    given, numbers, _ = of_tables(attention(20, 9, [16, 3], [0, -1], (8,)), [0])
    numbers[0] = np.full((20, length), row, np.int32)
    with pytest.raises(ValueError, match=reason):
        forth(given, 1, numbers)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"meets": [0, 0]}, "met twice"),
        ({"meets": [-1, -1]}, "do not cover"),
        ({"meets": [12, -1]}, "meetings do not fit"),
        ({"meets": [0]}, "go together"),
        ({"query": np.ones((19, 16), np.float32)}, "differ in shape"),
        ({"biases": [np.ones(8, np.float32)]}, "go together"),
        ({"score": np.ones((1, 9), np.float32)}, "not the width"),
        ({"weights": [np.ones((8, 34), np.float32)]}, "weights do not fit"),
        ({"mask": np.ones((20, 8), bool)}, "parts of events differ"),
    ],
)
def test_what_does_not_fit_is_refused(changed, reason):
    given = dataclasses.replace(attention(20, 9, [16, 3], [0, -1], (8,)), **changed)
    with pytest.raises(ValueError, match=reason):
        forth(given)


def test_without_tile_registers_it_is_refused(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_ISA", "generic")
    with pytest.raises(ValueError, match="tile registers"):
        forth(attention(2, 3, [4], [0], (5,)))
