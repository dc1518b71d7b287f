"""Tensors from bytes and lists: round trips, and no exception but InputError for anything at all."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.errors import InputError
from bowerbird.server.inference.binary import read_request
from bowerbird.server.inference.tensors import FLOATS, INTEGERS, tensor_of_bytes, tensor_of_list
from bowerbird.server.web.http import Request

DATATYPES = st.sampled_from([*INTEGERS, *FLOATS, "BOOL", "BYTES", "BF16", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_come_back(values: list[int]) -> None:
    raw = np.array(values, "<i8").tobytes()
    assert tensor_of_bytes("x", "INT64", [len(values)], raw).values == values
    assert tensor_of_list("x", "INT64", [1, len(values)], [values]).values == values


@given(st.lists(st.text()))
def test_texts_come_back(values: list[str]) -> None:
    raw = b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
    assert tensor_of_bytes("x", "BYTES", [len(values)], raw).values == values
    assert tensor_of_list("x", "BYTES", [len(values)], values).values == values


@given(DATATYPES, st.lists(st.integers(-3, 9), max_size=3), st.binary(max_size=64))
def test_any_bytes_are_a_tensor_or_an_input_error(datatype: str, shape: list[int], raw: bytes) -> None:
    try:
        tensor = tensor_of_bytes("x", datatype, shape, raw)
    except InputError:
        return
    assert len(tensor.values) == np.prod(shape)


@given(DATATYPES, st.lists(st.integers(-3, 9), max_size=3), st.lists(JSON, max_size=5))
def test_any_list_is_a_tensor_or_an_input_error(datatype: str, shape: list[int], data: list[Any]) -> None:
    try:
        tensor = tensor_of_list("x", datatype, shape, data)
    except InputError:
        return
    assert len(tensor.values) == np.prod(shape)


HEAD = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'


@given(st.binary(max_size=12), st.none() | st.integers(-3, 3))
def test_a_body_whose_parts_do_not_fit_is_an_input_error(tail: bytes, shift: int | None) -> None:
    headers = {} if shift is None else {b"inference-header-content-length": str(len(HEAD) + shift).encode()}
    request = Request("POST", "/v2", headers, b"", "", HEAD + tail)
    if (len(tail), shift) == (8, 0):
        _, (tensor,) = read_request(request)
        assert len(tensor.values) == 2
        return
    with pytest.raises(InputError):
        read_request(request)
