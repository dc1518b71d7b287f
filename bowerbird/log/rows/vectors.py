"""Columns of vectors: float32 lists of one width, from lists of any kind or JSON texts of them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.log.rows.faults import NOT_FINITE, WRONG_TYPE, WRONG_WIDTH, Mask

_TEXT = msgspec.json.Decoder(list[float])
_LARGEST = float(np.finfo(np.float32).max)
Vectors = npt.NDArray[np.float32]


def vector_type(width: int) -> pa.DataType:
    """Return the Arrow type of a column of vectors: fixed_size_list<float32>[width]."""
    return pa.list_(pa.float32(), width)


def read_vectors(raw: pa.Array, width: int) -> tuple[pa.Array, dict[str, Mask]]:
    """Return a raw column as vectors, null where missing or faulty, and masks of the faulty rows by reason.

    Taken are lists of numbers, and texts that hold such a list as JSON; empty text and null are missing.
    """
    if pa.types.is_string(raw.type):
        rows, unreadable = _parse(raw)
        raw = pa.array(rows, pa.list_(pa.float64()))
    elif _is_list_of_numbers(raw.type):
        unreadable = np.zeros(len(raw), dtype=np.bool_)
    else:
        given = _mask(raw.is_valid())
        return pa.nulls(len(raw), vector_type(width)), {WRONG_TYPE: given}
    given = _mask(raw.is_valid())
    fits = given & _mask(pc.equal(pc.list_value_length(raw), width))
    vectors = np.full((len(raw), width), np.nan)
    vectors[fits] = _values(raw.filter(pa.array(fits))).reshape(-1, width)
    infinite = fits & ~(np.abs(vectors) <= _LARGEST).all(axis=1)
    faults = {WRONG_TYPE: unreadable, WRONG_WIDTH: given & ~fits, NOT_FINITE: infinite}
    return vector_column(vectors, fits & ~infinite), {reason: rows for reason, rows in faults.items() if rows.any()}


def vector_column(vectors: npt.NDArray[np.floating[Any]], known: Mask) -> pa.Array:
    """Return the rows of [n, width] as an Arrow column; null where ``known``, bool [n], is false."""
    plain = np.where(known[:, None], vectors, 0.0).astype(np.float32) + np.float32(0)  # -0.0 and 0.0 are one value
    kind = vector_type(vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(plain.reshape(-1)), type=kind, mask=pa.array(~known))


def as_bytes(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of vectors as binary values, which can be sorted; equal vectors are equal bytes."""
    rows = column.combine_chunks()
    if isinstance(rows, pa.ChunkedArray):
        rows = pa.concat_arrays(rows.chunks) if rows.num_chunks else pa.array([], rows.type)
    vectors = [None if row is None else np.array(row, ">f4").tobytes() for row in rows.to_pylist()]
    return pa.array(vectors, pa.binary())


def live_vector(value: Any, width: int) -> list[float] | None:
    """Return one JSON value as a vector of float32 values; None where it is no list of ``width`` numbers."""
    if not isinstance(value, list) or len(value) != width:
        return None
    if not all(type(each) in (int, float) and abs(each) <= _LARGEST for each in value):
        return None  # NaN is not at most anything
    return [float(each) for each in np.array(value, np.float32) + np.float32(0)]


def _parse(texts: pa.Array) -> tuple[list[list[float] | None], Mask]:
    """Return the lists that JSON texts hold, None where there is none, and which texts hold something else."""
    rows: list[list[float] | None] = []
    faulty = np.zeros(len(texts), dtype=np.bool_)
    for place, text in enumerate(texts.view(pa.binary()).to_pylist()):
        try:
            rows.append(_TEXT.decode(text) if text else None)
        except msgspec.MsgspecError:
            rows.append(None)
            faulty[place] = True
    return rows, faulty


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and any(
        check(kind.value_type) for check in (pa.types.is_floating, pa.types.is_integer, pa.types.is_null)
    )


def _values(lists: pa.Array) -> npt.NDArray[np.float64]:
    values = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _mask(booleans: pa.Array) -> Mask:
    return np.asarray(booleans.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
