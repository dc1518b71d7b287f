"""Reads the tables of ready-made columns, Parquet or CSV, batch by batch, each column with its declared type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.samples.columns import SPLIT_DATES, FeatureColumn, ReadyColumns

_BATCH_ROWS = 65_536
_CSV_TYPES = {"text": pa.string(), "integer": pa.int64(), "flag": pa.bool_()}
_CSV_NULLS = ["", "NaN", "nan", "NULL", "null"]


@dataclass(frozen=True)
class TablePart:
    """Rows of one file, from row ``first`` on; ``date`` is the part's day where the declaration names parts."""

    file: Path
    first: int
    table: pa.Table
    date: str | None


def files_of(columns: ReadyColumns, folder: Path) -> list[tuple[Path, str | None]]:
    """Return the files with their part's day, if any; patterns are relative to ``folder``.

    Raises NotFoundError where a pattern matches nothing, InputError for a file of another kind.
    """
    found: list[tuple[Path, str | None]] = []
    for pattern in columns.files:
        found += [(file, None) for file in _matches(folder, pattern)]
    for part, day in SPLIT_DATES.items():
        for pattern in columns.parts.get(part, []):  # type: ignore[call-overload]
            found += [(file, day) for file in _matches(folder, pattern)]
    for file, _ in found:
        if not (_is_csv(file) or file.suffix == ".parquet"):
            raise InputError(f"{file} is neither .parquet nor .csv.", "Write the table as one of them.")
    return found


def _matches(folder: Path, pattern: str) -> list[Path]:
    place = Path(pattern)
    files = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor)))) if place.is_absolute() else sorted(
        folder.glob(pattern)
    )
    if not files:
        raise NotFoundError(f"No file matches {pattern!r} in {folder}.", "Correct the pattern, or write the file.")
    return files


def _is_csv(file: Path) -> bool:
    return file.name.endswith((".csv", ".csv.gz"))


def needed_columns(columns: ReadyColumns) -> dict[str, pa.DataType]:
    """Return the columns that the declaration names, and the type each is read as from CSV."""
    needed: dict[str, pa.DataType] = {}
    for name, feature in columns.features.items():
        needed |= _of_feature(name, feature)
    for entity in ("user", "item"):
        if column := getattr(columns, entity):
            needed.setdefault(column, _CSV_TYPES[columns.type_of_entity(entity) or "text"])
    for name, label in columns.labels.items():
        needed[label.column or name] = pa.float64()
    if columns.weight:
        needed[columns.weight] = pa.float64()
    for text in (columns.date, columns.split, columns.id):
        if text:
            needed.setdefault(text, pa.string())
    if columns.time:
        needed[columns.time] = pa.string()
    return needed


def _of_feature(name: str, feature: FeatureColumn) -> dict[str, pa.DataType]:
    if feature.kind == "sequence":
        needed = {field.column: pa.string() for field in feature.fields.values()}
        return needed | ({feature.age: pa.string()} if feature.age else {})
    if feature.kind == "category":
        return {feature.column or name: _CSV_TYPES[feature.type or "text"]}
    return {feature.column or name: pa.float64() if feature.kind == "number" else pa.string()}


def read_parts(columns: ReadyColumns, folder: Path) -> Iterator[TablePart]:
    """Yield the tables' rows, some ten thousand at a time, with the declared columns alone.

    Raises InputError for a missing column or a CSV value of another type, CorruptionError for an unreadable file.
    """
    needed = needed_columns(columns)
    for file, date in files_of(columns, folder):
        first = 0
        try:
            for batch in _csv_batches(file, needed) if _is_csv(file) else _parquet_batches(file, list(needed)):
                yield TablePart(file, first, pa.Table.from_batches([batch]), date)
                first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise CorruptionError(f"{file} cannot be read: {error}.", "Write the file again.") from error


def _parquet_batches(file: Path, needed: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as parquet:
        _check_columns(file, needed, parquet.schema_arrow.names)
        yield from parquet.iter_batches(_BATCH_ROWS, columns=needed)


def _csv_batches(file: Path, needed: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    with pa_csv.open_csv(file) as header:
        _check_columns(file, list(needed), header.schema.names)
    convert = pa_csv.ConvertOptions(
        column_types=needed,
        include_columns=list(needed),
        null_values=_CSV_NULLS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        with pa_csv.open_csv(file, convert_options=convert) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise InputError(f"{file}: {error}.", "Correct the value, or declare the column's type.") from error


def _check_columns(file: Path, needed: list[str], present: list[str]) -> None:
    for name in needed:
        if name not in present:
            raise InputError(f"{file} has no column {name!r}.", f"Its columns: {', '.join(present)}.")
