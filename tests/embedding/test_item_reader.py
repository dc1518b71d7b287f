"""Items' inputs in a few flat arrays are what each input is by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.embedding.inputs import CategoryInput, Inputs, NumberInput
from bowerbird.embedding.item_reader import ItemReader
from bowerbird.embedding.served_columns import ServedColumns
from bowerbird.embedding.served_table import ServedTable, write_served_table

ROWS = 30
WIDTHS = {"color": 3, "shop": 8}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    for name, width in WIDTHS.items():
        vectors = random.normal(size=(ROWS, width)).astype(np.float32)
        write_served_table(folder / name, np.arange(1, ROWS - 1, dtype=np.uint64), vectors, "fp32")
    return {name: ServedTable.open(folder / name) for name in WIDTHS}


@given(
    seed=st.integers(0, 99),
    items=st.integers(1, 9),
    categories=st.integers(0, 2),
    numbers=st.integers(0, 6),
    stacked=st.lists(st.lists(st.integers(0, 5), min_size=1, unique=True), max_size=2),
)
def test_each_input_is_there(tables, seed, items, categories, numbers, stacked):
    random = np.random.default_rng(seed)
    fields = tuple(CategoryInput(name, name, WIDTHS[name], "item") for name in list(WIDTHS)[:categories])
    names = [f"n{number}" for number in range(numbers)]
    inputs = Inputs(fields, tuple(NumberInput(name, "item") for name in names), (), ())
    stacks = {f"s{place}": [names[each] for each in some if each < numbers] for place, some in enumerate(stacked)}
    stacks = {name: some for name, some in stacks.items() if some}
    rows = random.integers(0, ROWS, (categories, items))
    values = random.random((numbers, items), np.float32)
    matrices = [each for each in (rows, values) if len(each)]
    reader = ItemReader(inputs, lambda names: ServedColumns([tables[name] for name in names]), stacks)
    assert reader.takes(matrices)
    assert not reader.takes([*matrices, values])
    if not matrices:
        return
    found = reader(matrices)
    for field, own in zip(fields, rows, strict=True):
        assert np.array_equal(found[field.name], tables[field.name].take(own))
    for name, some in stacks.items():
        assert np.array_equal(found[name], values[[names.index(each) for each in some]].T)
    together = {name for some in stacks.values() for name in some}
    assert {name for name in found if name in names} == set(names) - together
    for name in set(names) - together:
        assert np.array_equal(found[name], values[names.index(name)])
