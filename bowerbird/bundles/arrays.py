"""Named arrays in one file, in the safetensors format: no pickle, memory-mapped when read."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import CorruptionError

_NAMES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_CODES = {np.dtype(dtype): code for code, dtype in _NAMES.items()}
_ALIGNMENT = 64

AnyArray = npt.NDArray[np.generic]


def pack_arrays(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return arrays as the bytes of a safetensors file; raises TypeError for another dtype than numbers."""
    buffer = io.BytesIO()
    write_arrays(buffer, arrays)
    return buffer.getvalue()


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of ``data``."""


def write_arrays(file: Sink, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays as a safetensors file, each straight from its memory.

    Raises TypeError for another dtype than numbers.
    """
    file.write(_header(arrays))
    end = 0
    for array in arrays.values():
        padding = -end % _ALIGNMENT
        file.write(bytes(padding))
        file.write(_bytes_of(array))
        end += padding + array.nbytes


def _header(arrays: Mapping[str, AnyArray]) -> bytes:
    header: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in _CODES:
            raise TypeError(f"Array {name!r} has dtype {array.dtype}, which cannot be stored.")
        padding = -end % _ALIGNMENT
        if padding:
            header[f"__padding__.{end}"] = _entry("U8", (padding,), end, padding)
            end += padding
        header[name] = _entry(_CODES[array.dtype], array.shape, end, array.nbytes)
        end += array.nbytes
    text = msgspec.json.encode(header)
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(array: AnyArray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def read_arrays(path: Path) -> dict[str, AnyArray]:
    """Return a safetensors file's arrays, mapped privately (writes stay in memory).

    Raises CorruptionError when the file is not one or is cut short.
    """
    try:
        return _views(np.memmap(path, np.uint8, mode="c"))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"{path} is not a readable arrays file: {error}.", "Restore it or write it again."
        ) from error


def unpack_arrays(data: bytes) -> dict[str, AnyArray]:
    """Return copies of the arrays that ``pack_arrays`` made into bytes."""
    return _views(np.frombuffer(bytearray(data), np.uint8))


def _views(data: AnyArray) -> dict[str, AnyArray]:
    size = int.from_bytes(data[:8].tobytes(), "little")
    header = msgspec.json.decode(data[8 : 8 + size].tobytes(), type=dict[str, dict[str, Any]])
    body = data[8 + size :]
    return {name: _view(body, entry) for name, entry in header.items() if not name.startswith("__")}


def _entry(code: str, shape: tuple[int, ...], start: int, size: int) -> dict[str, Any]:
    return {"dtype": code, "shape": list(shape), "data_offsets": [start, start + size]}


def _view(body: AnyArray, entry: dict[str, Any]) -> AnyArray:
    start, end = entry["data_offsets"]
    dtype = np.dtype(_NAMES[entry["dtype"]])
    shape = tuple(entry["shape"])
    if end > len(body) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"bytes {start} to {end} do not hold {shape} of {dtype}")
    return np.frombuffer(body, dtype, math.prod(shape), start).reshape(shape)
