"""Named tensors as they arrive: as lists, or as bytes in row-major order, little-endian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bowerbird.errors import InputError

_DTYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
BYTES = "BYTES"
INTEGERS = tuple(name for name in _DTYPES if "INT" in name)
FLOATS = ("FP16", "FP32", "FP64")
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Tensor:
    """An input: its values are flat, in row-major order; those of BYTES are texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


def tensor_of_list(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """Return the tensor of a list, flat or nested; InputError where values, datatype and shape disagree."""
    values = _flat(name, data)
    if datatype == BYTES:
        return _checked(name, datatype, shape, [_text(name, value) for value in values])
    kind = _python_type(name, datatype)
    for value in values:
        fits = isinstance(value, float | int) if kind is float else isinstance(value, kind)
        if not fits or (kind is not bool and isinstance(value, bool)):
            raise InputError(f"Input {name!r} holds {value!r}.", f"Its datatype is {datatype}.")
    return _checked(name, datatype, shape, values)


def tensor_of_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """Return the tensor of raw bytes; each text of BYTES follows its length as four bytes."""
    if datatype == BYTES:
        return _checked(name, datatype, shape, _texts(name, bytes(raw)))
    _python_type(name, datatype)
    size = np.dtype(_DTYPES[datatype]).itemsize
    if len(raw) % size:
        raise InputError(f"Input {name!r} has {len(raw)} bytes.", f"A value of {datatype} has {size}.")
    return _checked(name, datatype, shape, np.frombuffer(raw, _DTYPES[datatype]).tolist())


def _checked(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> Tensor:
    if any(size < 0 for size in shape) or math.prod(shape) != len(values):
        raise InputError(
            f"Input {name!r} has the shape {list(shape)} and {len(values):,} values.", "Send as many as the shape says."
        )
    return Tensor(name, datatype, tuple(shape), values)


def _python_type(name: str, datatype: str) -> type:
    if datatype not in _DTYPES:
        known = ", ".join([*_DTYPES, BYTES])
        raise InputError(f"Input {name!r} has the datatype {datatype!r}.", f"Use one of {known}.")
    if datatype == "BOOL":
        return bool
    return float if datatype in FLOATS else int


def _flat(name: str, data: list[Any]) -> list[Any]:
    while any(isinstance(value, list) for value in data):
        if not all(isinstance(value, list) for value in data):
            raise InputError(f"Input {name!r} is nested unevenly.", "Send a flat list, in row-major order.")
        data = [value for part in data for value in part]
    return data


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise InputError(f"Input {name!r} holds {value!r}.", f"Its datatype is {BYTES}: send texts.")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"Input {name!r} holds bytes that are not UTF-8: {error}.", "Send UTF-8.") from error


def _texts(name: str, raw: bytes) -> list[str]:
    values, place = [], 0
    while place < len(raw):
        end = place + _LENGTH_BYTES + int.from_bytes(raw[place : place + _LENGTH_BYTES], "little")
        if place + _LENGTH_BYTES > len(raw) or end > len(raw):
            raise InputError(
                f"Input {name!r} ends within a text, at byte {place:,} of {len(raw):,}.",
                f"Write each text's length as {_LENGTH_BYTES} bytes, little-endian, then its bytes.",
            )
        values.append(_text(name, raw[place + _LENGTH_BYTES : end]))
        place = end
    return values
