"""From 64-bit keys back to the values that they were made of, as far as values were met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import Event, Table
from bowerbird.kernels.keys import key_integer
from bowerbird.log.schema import key_types, value_types
from bowerbird.plan.encode import encode_column, encode_value
from bowerbird.plan.spec import MISSING_KEY, Node

_CALENDAR_VALUES = 24


class Names:
    """Values by key; a key without one is shown as ``key:`` and its 16 hexadecimal digits."""

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._values

    def add(self, value: Any, slot_type: str) -> None:
        """Remember a value of a category type (``text``, ``integer``, ``flag``)."""
        if value is not None:
            self._values.setdefault(encode_value(value, slot_type), value)

    def add_record(self, record: Event | Table, values: Mapping[str, Any]) -> None:
        """Remember the categories among a record's columns."""
        for name, column_type in (key_types(record) | value_types(record)).items():
            if isinstance(column_type, ColumnType) and column_type.is_category:
                self.add(values.get(name), column_type.value)

    def add_column(self, column: pa.Array, slot_type: str, wanted: set[int]) -> None:
        """Remember the values of a column whose keys are wanted."""
        keys = encode_column(column, slot_type).tolist()
        for row, key in enumerate(keys):
            if key in wanted and key != MISSING_KEY:
                self._values.setdefault(key, column[row].as_py())

    def add_node(self, node: Node) -> None:
        """Remember the buckets of a node that makes its categories out of numbers."""
        count = _CALENDAR_VALUES if node.op in ("hour", "weekday") else len(node.numbers) + 1
        if node.op in ("hour", "weekday", "bucketise"):
            for value in range(count):
                self._values.setdefault(key_integer(value), value)

    def value(self, key: int) -> Any:
        """Return the value of a key; None for the missing one."""
        return None if key == MISSING_KEY else self._values.get(key, f"key:{key:016x}")
