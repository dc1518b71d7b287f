"""Vectors, bias inputs and retractions on their way into an engine."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer
from bowerbird.plan.batch import RETRACTION
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder, encode_vector, encode_vector_column, number_bits
from tests.shop_more import project

PLAN = compile_plan(project)
ENCODER = Encoder(PLAN)
EMBEDDING = PLAN.slot("items.embedding")
POSITION, PAGE = PLAN.slot("position:bias"), PLAN.slot("page:bias")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.large_list(pa.float32())])
def test_columns_of_lists_become_vectors(kind: pa.DataType) -> None:
    column = pa.array([[9.0, 9.0], [1.0, 2.0], None, [3.0, float("nan")], [float("inf"), 0.0]], kind)
    for given in (column.slice(1), pa.chunked_array([column.slice(1, 2), column.slice(3)])):
        vectors = encode_vector_column(given, 2)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, [[1.0, 2.0], *[[np.nan, np.nan]] * 3])
    assert encode_vector_column(pa.chunked_array([], kind), 2).shape == (0, 2)
    assert np.isnan(encode_vector_column(pa.array([None, None], kind), 2)).all()


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="2, 3 components"):
        encode_vector_column(pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]]), 2)
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        encode_vector([1.0, 2.0, 3.0], 2)
    with pytest.raises(InputError, match="is not a vector"):
        encode_vector("no", 2)
    assert encode_vector(None, 2) is None


def test_records_carry_their_vectors_beside_the_slots() -> None:
    row = {"item": "a", "brand": None, "colour": None, "price": 1.0}
    records = [row | {"_type": "items", "_time": at, "embedding": [at, 1.0, 2.0]} for at in (1, 2)]
    none = row | {"_type": "items", "_time": 3, "embedding": None}
    batch = ENCODER.encode_events([none, records[0], none, records[1]])
    rows, vectors = batch.vectors[EMBEDDING]
    assert rows.dtype == np.int64 and rows.tolist() == [1, 3]
    assert vectors.dtype == np.float32 and vectors.tolist() == [[1.0, 1.0, 2.0], [2.0, 1.0, 2.0]]
    assert {int(word) for word in batch.slots[EMBEDDING]} == {number_bits(np.nan)}


def test_tables_give_their_vectors() -> None:
    columns = {"item": ["a", "b"], "brand": [None, "x"], "colour": [None, None], "price": [1.0, None]}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items() if name != "price"})
    table = table.append_column("price", pa.array(columns["price"], pa.float64()))
    table = table.append_column("embedding", pa.array([None, [1.0, 2.0, 3.0]], pa.list_(pa.float32(), 3)))
    assert set(ENCODER.columns("items")) == {"item", "brand", "colour", "price", "embedding"}
    assert ENCODER.encode_table("items", table).shape == (len(PLAN.slots), 2)
    vectors = ENCODER.encode_vectors("items", table)
    np.testing.assert_array_equal(vectors[EMBEDDING], [[np.nan] * 3, [1.0, 2.0, 3.0]])
    assert ENCODER.encode_vectors("click", pa.table({"user": [1], "item": ["a"]})) == {}


def test_bias_inputs_are_true_in_records_and_fixed_in_requests() -> None:
    shown = {"_type": "exposure", "_time": 1, "user": 1, "item": "a", "page": 2, "position": 7.0}
    batch = ENCODER.encode_events([shown])
    assert int(batch.slots[POSITION, 0]) == number_bits(7.0)
    assert int(batch.slots[PAGE, 0]) == key_integer(2)
    table = pa.table({"user": [1], "item": ["a"], "page": [2], "position": [7.0]})
    np.testing.assert_array_equal(ENCODER.encode_table("exposure", table), batch.slots)
    assert sorted(ENCODER.columns("exposure")) == ["item", "page", "position", "user"]
    request = ENCODER.encode_request(1, {"page": 2, "position": 7.0})
    assert int(request[POSITION]) == number_bits(1.0)
    assert int(request[PAGE]) == key_integer(0)


def test_retractions_are_marked() -> None:
    click = {"_type": "click", "_time": 1, "user": 1, "item": "a", "page": 0}
    batch = ENCODER.encode_events([click, click | {"_retracts": True}, {"_type": "?", "_time": 2, "_retracts": True}])
    kind = PLAN.type_index("click")
    assert batch.types.tolist() == [kind, kind | RETRACTION, -1]
