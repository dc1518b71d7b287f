"""Conditions on raw columns: which rows of a batch imply an action."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import FieldCondition
from bowerbird.errors import InputError
from bowerbird.log.rows.coerce import Coerced, coerce, to_mask
from bowerbird.log.rows.faults import Faults, Mask

_COMPARISONS = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def holds(raw: pa.Array, when: str | FieldCondition, faults: Faults) -> Mask:
    """Return bool [n]: where a raw column is truthy, or satisfies a comparison; a missing value never does.

    Truthy is true, a number other than 0, and the texts ``true`` and of such numbers. Rows whose value can
    not be compared become ``faults``.
    """
    if isinstance(when, str):
        return _truthy(raw, when, faults)
    kind, value = _constant(when.value)
    operand = _checked(coerce(raw, kind), when.column, f"expected {kind.value} to compare", faults)
    return to_mask(_COMPARISONS[when.comparison](operand, pa.scalar(value)))


def _truthy(raw: pa.Array, column: str, faults: Faults) -> Mask:
    if pa.types.is_boolean(raw.type):
        return to_mask(raw)
    flags = coerce(raw, ColumnType.FLAG)
    if not flags.faults:
        return to_mask(flags.values)
    expected = "expected 0, 1, true, false or a number"
    numbers = coerce(raw, ColumnType.NUMBER)
    unclear = {reason: mask & to_mask(flags.values.is_null()) for reason, mask in numbers.faults.items()}
    counts = _checked(Coerced(numbers.values, unclear), column, expected, faults)
    return to_mask(flags.values) | to_mask(pc.not_equal(counts, 0.0))


def _checked(coerced: Coerced, column: str, expected: str, faults: Faults) -> pa.Array:
    for reason, rows in coerced.faults.items():
        faults.add(rows, reason, column, expected)
    return coerced.values


def _constant(value: object) -> tuple[ColumnType, Any]:
    if isinstance(value, bool):
        return ColumnType.FLAG, value
    if isinstance(value, int | float):
        return ColumnType.NUMBER, float(value)
    if isinstance(value, str):
        return ColumnType.TEXT, value
    raise InputError(f"A Field is compared with {value!r}.", "Compare it with a text, a number, True or False.")
