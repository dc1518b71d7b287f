"""Strict coercions of raw Arrow columns to declared types, with the rows that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType, PlainType, VectorType
from bowerbird.log.rows.faults import NOT_FINITE, WRONG_TYPE, Mask
from bowerbird.log.rows.vectors import read_vectors, vector_type

_INTEGER = r"^-?[0-9]{1,19}$"
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_SPECIAL = r"[+-]?(?i:nan|inf|infinity)"
_NUMBER = f"^({_DECIMAL}|{_SPECIAL})$"
_EXACT_FLOAT = 2**53


@dataclass(frozen=True)
class Coerced:
    """A column of the declared type, null where missing or faulty, and masks of the faulty rows by reason."""

    values: pa.Array
    faults: dict[str, Mask] = field(default_factory=dict)


def coerce(raw: pa.Array, target: PlainType) -> Coerced:
    """Return a raw column as ``target``.

    The only changes of type: integers and texts of digits into each other; 0, 1, true, false into FLAG; whole
    floats into INTEGER; numbers and texts of them into NUMBER; lists of numbers and JSON texts of them into vectors.
    Empty text, null and NaN are missing, but not within a vector.
    """
    plain = _plain(raw)
    if isinstance(target, VectorType):
        if pa.types.is_null(plain.type):
            return Coerced(pa.nulls(len(plain), vector_type(target.width)))
        return Coerced(*read_vectors(plain, target.width))
    if pa.types.is_null(plain.type):
        return Coerced(pa.nulls(len(plain), _TYPES[target]))
    return _COERCIONS[target](plain)


def to_mask(booleans: pa.Array) -> Mask:
    """Return an Arrow bool array as a NumPy mask; null is False."""
    filled = booleans.fill_null(False) if booleans.null_count else booleans
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _plain(raw: pa.Array) -> pa.Array:
    """Decode dictionaries and wide or view texts to plain columns; empty and undecodable texts to null."""
    if isinstance(raw, pa.ChunkedArray):
        raw = raw.combine_chunks()
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_large_string(raw.type) or pa.types.is_string_view(raw.type):
        raw = raw.cast(pa.string())
    return raw


def _only(keep: Mask, values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(keep), values, pa.scalar(None, values.type))


def _reject(raw: pa.Array, target: pa.DataType) -> Coerced:
    return Coerced(pa.nulls(len(raw), target), {WRONG_TYPE: to_mask(raw.is_valid())})


def _without_empty(texts: pa.Array) -> pa.Array:
    empty = to_mask(pc.equal(pc.binary_length(texts), 0))
    return _only(~empty, texts) if empty.any() else texts


def _split(raw: pa.Array, fits: Mask, cast: Callable[[pa.Array], pa.Array]) -> Coerced:
    """Cast the rows that fit; the others are null, and faulty where they held something."""
    bad = to_mask(raw.is_valid()) & ~fits
    if not bad.any():
        return Coerced(cast(raw))
    return Coerced(cast(_only(~bad, raw)), {WRONG_TYPE: bad})


def _to_text(raw: pa.Array) -> Coerced:
    if pa.types.is_integer(raw.type):
        return Coerced(raw.cast(pa.string()))
    if not pa.types.is_string(raw.type):
        return _reject(raw, pa.string())
    texts = _without_empty(raw)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return _split(texts, _decodable(texts), lambda kept: kept)
    return Coerced(texts)


def _decodable(texts: pa.Array) -> Mask:
    fits = np.ones(len(texts), dtype=np.bool_)
    for row, value in enumerate(texts.view(pa.binary()).to_pylist()):
        try:
            fits[row] = value is None or bool(value.decode()) or True
        except UnicodeDecodeError:
            fits[row] = False
    return fits


def _to_integer(raw: pa.Array) -> Coerced:
    target = pa.int64()
    if pa.types.is_uint64(raw.type):
        fits = to_mask(pc.less_equal(raw, pa.scalar(2**63 - 1, pa.uint64())))
        return _split(raw, fits, lambda kept: kept.cast(target))
    if pa.types.is_integer(raw.type):
        return Coerced(raw.cast(target))
    if pa.types.is_floating(raw.type):
        numbers = _missing_nan(raw.cast(pa.float64()))
        whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), float(_EXACT_FLOAT)))
        return _split(numbers, to_mask(whole), lambda kept: kept.cast(target))
    if pa.types.is_string(raw.type):
        texts = _without_empty(raw)
        fits = to_mask(pc.match_substring_regex(texts.view(pa.binary()), _INTEGER))
        try:
            return _split(texts, fits, lambda kept: kept.cast(target))
        except pa.ArrowInvalid:
            return _split(texts, fits & _within_int64(texts, fits), lambda kept: kept.cast(target))
    return _reject(raw, target)


def _within_int64(texts: pa.Array, digits: Mask) -> Mask:
    limits = range(-(2**63), 2**63)
    values = texts.view(pa.binary()).to_pylist()
    return np.array([fits and int(value) in limits for value, fits in zip(values, digits, strict=True)], dtype=np.bool_)


def _to_flag(raw: pa.Array) -> Coerced:
    if pa.types.is_boolean(raw.type):
        return Coerced(raw)
    if pa.types.is_floating(raw.type):
        raw = _missing_nan(raw.cast(pa.float64()))
    if pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type):
        fits = to_mask(pc.or_(pc.equal(raw, 0), pc.equal(raw, 1)))
        return _split(raw, fits, lambda kept: kept.cast(pa.bool_()))
    if pa.types.is_string(raw.type):
        texts = pc.ascii_lower(_without_empty(raw))
        fits = to_mask(pc.is_in(texts, value_set=pa.array(["0", "1", "true", "false"])))
        yes = pa.array(["1", "true"])
        return _split(texts, fits, lambda kept: pc.if_else(kept.is_valid(), pc.is_in(kept, value_set=yes), None))
    return _reject(raw, pa.bool_())


def _missing_nan(numbers: pa.Array) -> pa.Array:
    missing = to_mask(pc.is_nan(numbers))
    return _only(~missing, numbers) if missing.any() else numbers


def _to_number(raw: pa.Array) -> Coerced:
    kind = raw.type
    if pa.types.is_string(kind):
        texts = _without_empty(raw)
        fits = to_mask(pc.match_substring_regex(texts.view(pa.binary()), _NUMBER))
        return _finite(_split(texts, fits, lambda kept: kept.cast(pa.float64())))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(Coerced(raw.cast(pa.float64(), safe=False)))
    return _reject(raw, pa.float64())


def _finite(numbers: Coerced) -> Coerced:
    values = pc.add(_missing_nan(numbers.values), 0.0)  # -0.0 and 0.0 are one value, as duplicates see it
    infinite = to_mask(pc.is_inf(values))
    if not infinite.any():
        return Coerced(values, numbers.faults)
    return Coerced(_only(~infinite, values), numbers.faults | {NOT_FINITE: infinite})


_TYPES = {
    ColumnType.TEXT: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.FLAG: pa.bool_(),
    ColumnType.NUMBER: pa.float64(),
}
_COERCIONS: dict[ColumnType, Callable[[pa.Array], Coerced]] = {
    ColumnType.TEXT: _to_text,
    ColumnType.INTEGER: _to_integer,
    ColumnType.FLAG: _to_flag,
    ColumnType.NUMBER: _to_number,
}
