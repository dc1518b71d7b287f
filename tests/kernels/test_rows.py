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


def test_results_between_vectors_are_whole():
    table, places = torch.randn(500, 16), np.arange(20_000) % 500
    out = torch.empty(20_000 * 16 + 1)[1:].view(20_000, 16)
    _native.gather_rows(table, places, out)
    assert torch.equal(out, table[torch.from_numpy(places)])
