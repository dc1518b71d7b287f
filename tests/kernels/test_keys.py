"""Keys: native equals the Python twin, no key is missing, golden values hold across machines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_cross, key_integer, key_text, keys_of_integers, keys_of_texts
from bowerbird.plan.encode import encode_column, encode_value

int64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(int64))
def test_integers_equal_twin(values: list[int]) -> None:
    keys = keys_of_integers(np.array(values, dtype=np.int64))
    assert keys.tolist() == [key_integer(value) for value in values]
    assert 0 not in keys


@given(st.lists(st.text()))
def test_texts_equal_twin(values: list[str]) -> None:
    data = [value.encode("utf-8", "surrogatepass") for value in values]
    offsets = np.cumsum([0, *map(len, data)], dtype=np.int64)
    keys = keys_of_texts(np.frombuffer(b"".join(data), dtype=np.uint8), offsets)
    assert keys.tolist() == [key_text(value) for value in values]


@given(st.lists(st.one_of(st.none(), st.text())))
def test_text_columns_equal_single_values(values: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(values[:3], pa.string()), pa.array(values[3:], pa.string())])
    assert encode_column(column, "text").tolist() == [encode_value(value, "text") for value in values]


@given(st.lists(st.one_of(st.none(), int64)))
def test_integer_columns_equal_single_values(values: list[int | None]) -> None:
    column = pa.array(values, pa.int64())
    assert encode_column(column, "integer").tolist() == [encode_value(value, "integer") for value in values]


@given(st.lists(st.one_of(st.none(), st.floats())))
def test_number_columns_equal_single_values(values: list[float | None]) -> None:
    column = pa.array(values, pa.float64())
    assert encode_column(column, "number").tolist() == [encode_value(value, "number") for value in values]


def test_golden_keys() -> None:
    """Bundles and logs of different machines meet: these numbers must never change."""
    assert key_integer(0) == 0xE220A8397B1DCDAF
    assert key_integer(-1) == 0xE4D971771B652C20
    assert key_text("") == _fold([])
    assert key_text("bowerbird") == _fold([b"bowerbir", b"d"])
    assert key_cross([1, 2]) != key_cross([2, 1])


def _fold(words: list[bytes]) -> int:
    """Return a text's key by the documented recurrence, written apart from the implementation."""
    length = sum(map(len, words))
    state = key_integer(_signed(0x2545F4914F6CDD1D ^ length))
    for word in words:
        state = key_integer(_signed(state ^ int.from_bytes(word, "little")))
    return state


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(InputError, match="not of type text"):
        encode_value(7, "text")


def test_offsets_outside_the_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="offsets leave"):
        keys_of_texts(np.zeros(3, np.uint8), np.array([0, 9], np.int64))


@given(st.lists(int64))
def test_key_index_numbers_keys_in_order(values: list[int]) -> None:
    index = _native.KeyIndex()
    keys = np.array([value % 2**64 for value in values], dtype=np.uint64)
    rows: dict[int, int] = {}
    for key in keys.tolist():
        if key != 0:
            rows.setdefault(key, len(rows))
    assert index.insert(keys).tolist() == [rows.get(key, -1) for key in keys.tolist()]
    assert index.find(keys).tolist() == [rows.get(key, -1) for key in keys.tolist()]
    assert len(index) == len(rows)
