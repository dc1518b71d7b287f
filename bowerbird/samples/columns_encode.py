"""Rows of ready-made columns as a sample folder's columns: keys, numbers, lists, and checks of every value."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.errors import InputError
from bowerbird.kernels.keys import keys_of_integers
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Offsets, Ragged
from bowerbird.plan.encode import encode_column, encode_vector_column
from bowerbird.plan.spec import Feature, Plan
from bowerbird.samples.columns import SPLIT_DATES, CategoryType, FeatureColumn, LabelColumn, ReadyColumns
from bowerbird.samples.columns_read import TablePart

_DAY = 86_400_000_000
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_WIDE = {"text": pa.large_string(), "integer": pa.int64(), "flag": pa.bool_()}
_SPLIT_NAMES = {"valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class ReadyEncoder:
    """Encodes parts of the tables. ``types`` are the categories' types by column."""

    columns: ReadyColumns
    plan: Plan
    types: dict[str, CategoryType]

    def base(self, part: TablePart, first: int) -> pa.Table:
        """Return the columns of a sample folder that are not features; ``first`` is the rows' number among all.

        Raises InputError that names the file, the row and the value of what cannot be.
        """
        rows = np.arange(first, first + part.table.num_rows)
        column = self.columns.id
        base = {
            "lsn": pa.array(rows),
            "read_lsn": pa.array(rows),
            "time": pa.array(self._times(part)),
            "user": pa.array(self._entity(part, "user", keys_of_integers(rows))),
            "item": pa.array(self._entity(part, "item", np.zeros(len(rows), np.uint64))),
            "exposure_id": pc.cast(part.table.column(column) if column else pa.array(rows), pa.string()),
            "weight": pa.array(self._weights(part)),
        }
        for name, label in self.columns.labels.items():
            base[f"label.{name}"] = _label(part, name, label)
        return pa.table(base)

    def block(self, part: TablePart) -> FeatureBlock:
        """Return the features of a part; raises InputError as ``base`` does."""
        categories: dict[str, Keys] = {}
        numbers: dict[str, Numbers] = {}
        block = FeatureBlock(categories, numbers)
        for feature in self.plan.features:
            declared = self.columns.features[feature.name]
            column = declared.column or feature.name
            if feature.kind == "category":
                categories[feature.name] = self._keys(part, column)
            elif feature.kind == "number":
                numbers[feature.name] = _numbers(part, column)
            elif feature.kind == "vector":
                block.vectors[feature.name] = _vectors(part, column, feature.width)
            else:
                block.sequences[feature.name] = self._sequence(part, feature, declared)
        return block

    def _entity(self, part: TablePart, name: str, otherwise: Keys) -> Keys:
        column = getattr(self.columns, name)
        return self._keys(part, column) if column else otherwise

    def _keys(self, part: TablePart, column: str) -> Keys:
        return _encode(part, column, part.table.column(column), self.types[column])

    def _times(self, part: TablePart) -> npt.NDArray[np.int64]:
        count = part.table.num_rows
        if part.date is not None:
            return np.full(count, _midnight(part.date))
        if self.columns.split:
            return _split_times(part, self.columns.split)
        if self.columns.date:
            return _dates(part, self.columns.date)
        return _instants(part, self.columns.time, _UNITS[self.columns.time_unit])

    def _weights(self, part: TablePart) -> Numbers:
        name = self.columns.weight
        if not name:
            return np.ones(part.table.num_rows, np.float32)
        weights = _as_floats(part, name, part.table.column(name))
        _refuse(part, name, ~(np.isfinite(weights) & (weights >= 0)), "a weight is a number of 0 or more")
        return weights.astype(np.float32)

    def _sequence(self, part: TablePart, feature: Feature, declared: FeatureColumn) -> Ragged:
        lists = {
            name: _lists(part, field.column, declared.separator) for name, field in declared.fields.items()
        }
        ages = _lists(part, declared.age, declared.separator) if declared.age else None
        first = next(iter(declared.fields.values())).column
        offsets = next(iter(lists.values()))[0]
        for name, (others, _) in [*lists.items(), *([("age", ages)] if ages else [])]:
            lengths = np.diff(others) != np.diff(offsets)
            _refuse(part, first, lengths, f"its list is not as long as that of {name!r}")
        kept, taken = _latest(offsets, feature.length, declared.order == "newest_first")
        fields: dict[str, Keys | Numbers] = {}
        for name, field in declared.fields.items():
            values = lists[name][1].take(pa.array(taken))
            if field.kind == "category":
                fields[name] = _encode(part, field.column, values, self.types[field.column])
            else:
                fields[name] = _as_floats(part, field.column, values).astype(np.float32)
        if ages is None:
            return Ragged(kept, fields, np.zeros(len(taken), np.float32))
        seconds = _as_floats(part, declared.age, ages[1].take(pa.array(taken)))
        return Ragged(kept, fields, np.nan_to_num(seconds).astype(np.float32))


def _label(part: TablePart, name: str, label: LabelColumn) -> pa.Array:
    column = label.column or name
    values = _as_floats(part, column, part.table.column(column))
    unknown = np.isnan(values)
    if not label.may_be_null:
        _refuse(
            part, column, unknown, f"label {name!r} is not known",
            "Leave such rows out, or declare may_be_null = true where null means not known yet.",
        )  # fmt: skip
    _refuse(part, column, ~unknown & (values != 0) & (values != 1), f"label {name!r} is 0 or 1")
    return pa.array(np.nan_to_num(values).astype(np.int8), mask=unknown)


def _numbers(part: TablePart, column: str) -> Numbers:
    values = _as_floats(part, column, part.table.column(column))
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    _refuse(part, column, np.isinf(numbers), "a number is finite in 32 bits, or null", "Clip it, or make it null.")
    return numbers


def _vectors(part: TablePart, column: str, width: int) -> npt.NDArray[np.float32]:
    try:
        return encode_vector_column(part.table.column(column), width)
    except (InputError, pa.ArrowException) as error:
        what = error.what if isinstance(error, InputError) else str(error)
        raise InputError(f"{part.file}, column {column!r}: {what}", f"Give lists of {width} numbers.") from error


def _encode(part: TablePart, column: str, values: pa.ChunkedArray | pa.Array, kind: CategoryType) -> Keys:
    try:
        plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        return encode_column(plain.cast(_WIDE[kind]), kind)
    except pa.ArrowException as error:
        raise InputError(
            f"{part.file}, rows {part.first} on, column {column!r}: {error}.", f"Its values are of type {kind}."
        ) from error


def _as_floats(part: TablePart, column: str, values: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.float64]:
    try:
        whole = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
        floats: npt.NDArray[np.float64] = np.array(whole.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowException as error:
        raise InputError(
            f"{part.file}, rows {part.first} on, column {column!r}: {error}.", "Its values are numbers."
        ) from error
    return floats


def _refuse(part: TablePart, column: str, wrong: npt.NDArray[np.bool_], rule: str, remedy: str = "Correct it.") -> None:
    if wrong.any():
        row = int(wrong.argmax())
        value = part.table.column(column)[row].as_py()
        raise InputError(f"{part.file}, row {part.first + row}: {column!r} is {value!r}; {rule}.", remedy)


# ---- times -----------------------------------------------------------------------------------


def _midnight(date: str) -> int:
    moment = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
    return round(moment.timestamp()) * 1_000_000


def _split_times(part: TablePart, column: str) -> npt.NDArray[np.int64]:
    names = [_SPLIT_NAMES.get(str(value), str(value)) for value in part.table.column(column).to_pylist()]
    wrong = np.array([name not in SPLIT_DATES for name in names], bool)
    _refuse(part, column, wrong, f"it is one of {', '.join(SPLIT_DATES)}")
    days = {name: _midnight(date) for name, date in SPLIT_DATES.items()}
    return np.array([days[name] for name in names], np.int64)


def _dates(part: TablePart, column: str) -> npt.NDArray[np.int64]:
    values = part.table.column(column)
    if pa.types.is_integer(values.type):
        values = pc.strptime(values.cast(pa.string()), "%Y%m%d", "s", error_is_null=True)
    days = _cast_time(part, column, values, pa.date32())
    return _integers(days.cast(pa.int32())) * _DAY


def _instants(part: TablePart, column: str, unit: int) -> npt.NDArray[np.int64]:
    values = part.table.column(column)
    if pa.types.is_string(values.type) and pc.all(pc.utf8_is_digit(values)).as_py():
        values = values.cast(pa.int64())
    if pa.types.is_integer(values.type):
        _refuse(part, column, values.is_null().to_numpy(zero_copy_only=False), "a time is known")
        return _integers(values) * unit
    return _integers(_cast_time(part, column, values, pa.timestamp("us", "UTC")).cast(pa.int64()))


def _integers(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.int64)


def _cast_time(part: TablePart, column: str, values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(values.type) and values.type.tz is None and pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us")).cast(kind)
    try:
        times = values.cast(kind, safe=False) if pa.types.is_timestamp(values.type) else values.cast(kind)
    except pa.ArrowException as error:
        raise InputError(
            f"{part.file}, rows {part.first} on, column {column!r}: {error}.", f"Its values are of type {kind}."
        ) from error
    _refuse(part, column, times.is_null().to_numpy(zero_copy_only=False), "what splits the rows is known")
    return times


# ---- lists -----------------------------------------------------------------------------------


def _lists(part: TablePart, column: str, separator: str) -> tuple[Offsets, pa.Array]:
    """Return where each row's values begin, int64 [rows + 1], and all values; a null list is empty."""
    lists = pa.concat_arrays(part.table.column(column).chunks)
    if separator and pa.types.is_string(lists.type):
        filled = pc.fill_null(lists, "")
        lists = pc.split_pattern(pc.if_else(pc.equal(filled, ""), None, filled), separator)
    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise InputError(
            f"{part.file}: column {column!r} is {lists.type}, not a list.",
            "Write lists in Parquet; in CSV give the sequence's separator.",
        )
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), lists.flatten()


def _latest(offsets: Offsets, length: int, newest_first: bool) -> tuple[Offsets, npt.NDArray[np.int64]]:
    """Return the offsets of each row's latest ``length`` events, and where they stand, oldest first."""
    counts = np.minimum(np.diff(offsets), length)
    kept = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    within = np.arange(kept[-1]) - np.repeat(kept[:-1], counts)
    if newest_first:
        return kept, np.repeat(offsets[:-1] + counts - 1, counts) - within
    return kept, np.repeat(offsets[1:] - counts, counts) + within
