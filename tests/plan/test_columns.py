"""Columns side by side are the columns by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.plan.columns import Chosen, ColumnLayout, Columns, longest


@given(st.lists(st.integers(0, 5), max_size=3), st.lists(st.integers(1, 4), min_size=3, max_size=3), st.data())
def test_chosen_columns_are_those_of_their_names(sizes, rows, data):
    shapes = list(zip(sizes, rows, strict=False))
    matrices = [np.arange(size * count).reshape(size, count) + 100 * at for at, (size, count) in enumerate(shapes)]
    names = [[f"{place}.{line}" for line in range(size)] for place, size in enumerate(sizes)]
    columns = Columns(ColumnLayout(names), matrices)
    plain = {name: matrices[place][line] for place, each in enumerate(names) for line, name in enumerate(each)}
    assert list(columns) == list(plain) and len(columns) == len(plain)
    assert all(np.array_equal(columns[name], column) for name, column in plain.items())
    assert longest(columns) == longest(plain)
    if not plain:
        return
    wanted = data.draw(st.lists(st.sampled_from(sorted(plain)), min_size=1, unique=True))
    lengths = {len(plain[name]) for name in wanted}
    if len(lengths - {1}) > 1:
        return
    chosen = Chosen(wanted)
    expected = np.stack([np.broadcast_to(plain[name], max(lengths)) for name in wanted])
    for given_columns in (columns, plain, Columns(ColumnLayout(names[::-1]), matrices[::-1]), columns):
        assert np.array_equal(chosen.matrix(given_columns), expected)
        assert chosen.length(given_columns) == max(lengths)


def test_an_absent_column_is_named():
    columns = Columns(ColumnLayout([["a", "b"]]), [np.zeros((2, 3))])
    for each in (columns, dict(columns)):
        with pytest.raises(KeyError, match="c"):
            Chosen(["a", "c"]).matrix(each)
        with pytest.raises(KeyError, match="c"):
            Chosen(["a", "c"]).among(each)
        assert set(Chosen(["a"]).among(each)) >= {"a"}
