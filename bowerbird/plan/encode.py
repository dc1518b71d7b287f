"""From values as the log holds them to slots as engines take them."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer, key_text, keys_of_integers, keys_of_texts
from bowerbird.plan.batch import RETRACTION, RecordBatch, Slots, Vectors
from bowerbird.plan.spec import MISSING_KEY, Plan, RecordType

_NAN_BITS = int(np.array([np.nan]).view(np.uint64)[0])
_text_key = lru_cache(maxsize=1 << 16)(key_text)
_integer_key = lru_cache(maxsize=1 << 16)(key_integer)
_DOUBLE = struct.Struct("<d")
_WORD = struct.Struct("<Q")


def number_bits(value: float) -> int:
    """Return the 64 bits of a float64; every NaN becomes the same one."""
    if math.isnan(value):
        return _NAN_BITS
    word: int = _WORD.unpack(_DOUBLE.pack(value))[0]
    return word


def encode_value(value: Any, slot_type: str) -> int:
    """Return one value's slot: a key, or a number's bits. ``None`` is missing.

    The value must already have its slot's type (see ``log.coerce``); raises InputError otherwise.
    """
    if value is None:
        return _NAN_BITS if slot_type == "number" else MISSING_KEY
    if slot_type == "number" and isinstance(value, int | float):
        return number_bits(float(value))
    if slot_type == "text" and isinstance(value, str):
        return _text_key(value)
    if slot_type in ("integer", "flag") and isinstance(value, int):
        return _integer_key(value)
    raise InputError(f"{value!r} is not of type {slot_type}.", "Send a value of the declared type.")


def encode_column(column: pa.ChunkedArray | pa.Array, slot_type: str) -> Slots:
    """Return uint64 [n] slots of an Arrow column: string, int64, bool or float64 by slot type."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if slot_type == "number":
        numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
        numbers[np.isnan(numbers)] = np.nan
        slots: Slots = numbers.view(np.uint64)
        return slots
    if slot_type == "text":
        return _text_keys(array)
    filled = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return _hide_missing(keys_of_integers(filled), array)


def _text_keys(array: pa.Array) -> Slots:
    encoded = array.dictionary_encode()
    values = encoded.dictionary.cast(pa.large_string())
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[values.offset : values.offset + len(values) + 1]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8)
    keys = np.append(keys_of_texts(text, np.ascontiguousarray(bounds)), np.uint64(MISSING_KEY))
    positions = pc.fill_null(encoded.indices.cast(pa.int64()), len(values)).to_numpy(zero_copy_only=False)
    slots: Slots = keys[positions]
    return slots


def _hide_missing(keys: Slots, array: pa.Array) -> Slots:
    if array.null_count:
        keys[array.is_null().to_numpy(zero_copy_only=False)] = MISSING_KEY
    return keys


def encode_vector(value: Any, width: int) -> npt.NDArray[np.float32] | None:
    """Return one vector as float32 [width]; None where it is missing or has a component that is not finite.

    Raises InputError on anything but ``width`` numbers.
    """
    if value is None:
        return None
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{value!r} is not a vector.", f"Send a list of {width} numbers.") from error
    if vector.shape != (width,):
        raise InputError(f"A vector has shape {vector.shape}.", f"Send a list of {width} numbers.")
    return vector if np.isfinite(vector).all() else None


def encode_vector_column(column: pa.ChunkedArray | pa.Array, width: int) -> npt.NDArray[np.float32]:
    """Return float32 [n, width] of an Arrow column of lists, fixed or not; NaN rows where one is missing or not finite.

    Raises InputError where a list has another length.
    """
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    vectors = np.full((len(array), width), np.nan, dtype=np.float32)
    if not len(array):
        return vectors
    known = array.is_valid().to_numpy(zero_copy_only=False)
    given = array.filter(array.is_valid())
    flat = given.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    lengths = np.unique(pc.list_value_length(given).to_numpy(zero_copy_only=False))
    if any(lengths != width):
        found = ", ".join(str(int(length)) for length in lengths)
        raise InputError(f"A vector has {found} components.", f"Give lists of {width} numbers.")
    vectors[known] = flat.reshape(-1, width)
    vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
    return vectors


class Encoder:
    """Encodes one plan's records, requests and items. Slots that a record lacks are missing."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._columns = {record.name: self._columns_of(record) for record in plan.types}
        self._vectors = {record.name: self._vectors_of(record) for record in plan.types}
        self._type_index = {record.name: index for index, record in enumerate(plan.types)}
        missing = [MISSING_KEY if slot.is_category else _NAN_BITS for slot in plan.slots]
        self._missing: Slots = np.array(missing, dtype=np.uint64)
        exposure = next(record for record in plan.types if record.kind == "exposure")
        self._request = _with_fixed(plan, self._missing)
        fixed = [each.slot for each in plan.fixed]
        self._context = {
            name: (slot, slot_type)
            for name, slot, slot_type in self._columns[exposure.name]
            if slot not in (plan.user_slot, plan.item_slot, *fixed)
        }

    def _columns_of(self, record: RecordType) -> list[tuple[str, int, str]]:
        prefix = f"{record.name}." if record.kind == "table" else ""
        slots = [(self.plan.slots[slot], slot) for slot in record.slots]
        return [
            (slot.column or slot.name.removeprefix(prefix), index, slot.type)
            for slot, index in slots
            if slot.type != "vector"
        ]

    def _vectors_of(self, record: RecordType) -> list[tuple[str, int, int]]:
        slots = [(self.plan.slots[slot], slot) for slot in record.slots]
        return [
            (slot.name.removeprefix(f"{record.name}."), index, slot.width)
            for slot, index in slots
            if slot.type == "vector"
        ]

    def columns(self, type_name: str) -> list[str]:
        """Return the columns of a record type that the plan reads, each once; others need not be given."""
        slots = [name for name, _, _ in self._columns[type_name]]
        return list(dict.fromkeys([*slots, *(name for name, _, _ in self._vectors[type_name])]))

    def encode_table(self, type_name: str, table: pa.Table) -> Slots:
        """Return uint64 [slots, n] of an Arrow table with the record type's canonical columns, less its vectors."""
        slots = np.repeat(self._missing[:, None], table.num_rows, axis=1)
        for name, slot, slot_type in self._columns[type_name]:
            slots[slot] = encode_column(table.column(name), slot_type)
        return slots

    def encode_vectors(self, type_name: str, table: pa.Table) -> dict[int, npt.NDArray[np.float32]]:
        """Return the vectors of an Arrow table by slot: float32 [n, width], NaN rows where there is none."""
        return {
            slot: encode_vector_column(table.column(name), width)
            for name, slot, width in self._vectors[type_name]
        }

    def encode_events(self, events: Sequence[Mapping[str, Any]]) -> RecordBatch:
        """Return validated records (with ``_type`` and ``_time``) as a batch; unknown types get index -1.

        The index of a retraction (``_retracts``) carries ``RETRACTION``.
        """
        missing: list[int] = self._missing.tolist()
        types: list[int] = []
        rows: list[list[int]] = []
        for event in events:
            row, name = missing.copy(), event["_type"]
            index = self._type_index.get(name, -1)
            types.append(index + RETRACTION if index >= 0 and "_retracts" in event else index)
            for column, slot, slot_type in self._columns.get(name, ()):
                value = event.get(column)
                if value is not None:
                    row[slot] = encode_value(value, slot_type)
            rows.append(row)
        times = np.array([event["_time"] for event in events], dtype=np.int64)
        slots = np.ascontiguousarray(np.array(rows, dtype=np.uint64).reshape(len(rows), len(missing)).T)
        return RecordBatch(np.array(types, dtype=np.int32), times, slots, self._vectors_in(events))

    def _vectors_in(self, events: Sequence[Mapping[str, Any]]) -> Vectors:
        found: dict[int, tuple[list[int], list[npt.NDArray[np.float32]]]] = {}
        if not any(self._vectors.values()):
            return {}
        for at, event in enumerate(events):
            for name, slot, width in self._vectors.get(event["_type"], ()):
                vector = encode_vector(event.get(name), width)
                if vector is not None:
                    rows, vectors = found.setdefault(slot, ([], []))
                    rows.append(at)
                    vectors.append(vector)
        return {slot: (np.array(rows, np.int64), np.stack(vectors)) for slot, (rows, vectors) in found.items()}

    def encode_request(self, user: Any, context: Mapping[str, Any]) -> Slots:
        """Return uint64 [slots] of a request; context columns that the plan does not read are ignored.

        Bias inputs have the values that the plan fixes, whatever the context says.
        """
        row = self._request.copy()
        row[self.plan.user_slot] = encode_value(user, self.plan.slots[self.plan.user_slot].type)
        for name, value in context.items():
            place = self._context.get(name)
            if place is not None:
                row[place[0]] = encode_value(value, place[1])
        return row

    def encode_items(self, items: Sequence[Any]) -> npt.NDArray[np.uint64]:
        """Return uint64 [n] keys of item ids."""
        slot_type = self.plan.slots[self.plan.item_slot].type
        return np.array([encode_value(item, slot_type) for item in items], dtype=np.uint64)


def _with_fixed(plan: Plan, missing: Slots) -> Slots:
    """Return uint64 [slots] of a request that gives nothing: missing values, and those that the plan fixes."""
    row = missing.copy()
    for fixed in plan.fixed:
        is_category = plan.slots[fixed.slot].is_category
        number = math.nan if fixed.number is None else fixed.number
        row[fixed.slot] = fixed.key if is_category else number_bits(number)
    return row
