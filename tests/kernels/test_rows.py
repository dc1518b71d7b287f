"""Gathered and scattered rows are NumPy's, few or more than a cache holds."""

import numpy as np
import pytest
import torch

from bowerbird import _native


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("count", "width"), [(1, 1), (3000, 10), (20_000, 16), (70_001, 4), (30_000, 9)])
def test_rows_are_numpys(count, width, threads):
    random = np.random.default_rng(0)
    table, places = random.normal(size=(500, width)).astype(np.float32), random.integers(0, 500, count)
    out = torch.full((count, width), np.nan)
    _native.gather_rows(torch.from_numpy(table), places, out, threads)
    assert np.array_equal(out.numpy(), table[places])
    total, expected = torch.zeros(500, width), np.zeros((500, width), np.float32)
    _native.scatter_rows(out, places, total, threads)
    np.add.at(expected, places, table[places])
    assert np.array_equal(total.numpy(), expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("width", [1, 10, 16, 33])
def test_fields_side_by_side_are_numpys(width, threads):
    random = np.random.default_rng(1)
    table = random.normal(size=(600, width)).astype(np.float32)
    places = random.integers(0, 200, (1500, 6)).astype(np.int32)[:, 1:]
    columns = [(4, 400), (0, 0), (2, 200), (1, 200), (0, 0)]
    out = torch.full((1500, 5 * width), np.nan)
    _native.gather_fields(torch.from_numpy(table), places, columns, out, threads)
    rows = [first + places[:, column].astype(np.int64) for column, first in columns]
    assert np.array_equal(out.numpy(), np.concatenate([table[each] for each in rows], axis=1))
    total, expected = torch.ones(600, width), np.ones((600, width), np.float32)
    _native.scatter_fields(out, places, columns, total, threads)
    for each in rows:
        np.add.at(expected, each, table[each])
    assert np.array_equal(total.numpy(), expected)


@pytest.mark.parametrize("place", [-1, 100])
def test_a_place_beyond_the_table_is_refused(place):
    places = np.array([[3, 0], [4, place]], np.int32)
    table, values = torch.zeros(150, 2), torch.zeros(2, 4)
    _native.gather_fields(table, places[:1], [(0, 50), (1, 50)], values[:1])
    for call in (_native.gather_fields, _native.scatter_fields):
        given = (table, values) if call is _native.gather_fields else (values, table)
        with pytest.raises(ValueError, match="beyond the table"):
            call(given[0], places, [(0, 50), (1, 50)], given[1])
    with pytest.raises(ValueError, match="column is beyond"):
        _native.gather_fields(table, places, [(0, 0), (2, 0)], values)


def test_results_between_vectors_are_whole():
    table, places = torch.randn(500, 16), np.arange(20_000) % 500
    out = torch.empty(20_000 * 16 + 1)[1:].view(20_000, 16)
    _native.gather_rows(table, places, out)
    assert torch.equal(out, table[torch.from_numpy(places)])
