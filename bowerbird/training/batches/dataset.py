"""Reads a sample folder: features, labels, weights and times as NumPy columns, day by day."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.errors import CorruptionError, InputError
from bowerbird.models.task import Task
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged
from bowerbird.plan.spec import Feature, Plan
from bowerbird.samples.manifest import MANIFEST_FILE, SampleManifest, read_manifest, read_plan

_UNUSED = ("lsn", "read_lsn", "exposure_id")
_READ_BUFFER = 1 << 16
_PART_ROWS = 8192

Labels = dict[str, Numbers]
"""By task, float32: 1, 0, or NaN while immature."""


@dataclass(frozen=True)
class SampleRows:
    """Some samples: ``weight`` float32, ``user`` and ``item`` uint64 keys, ``time`` int64 microseconds.

    ``file`` is where they were read, from row ``first_row`` on.
    """

    block: FeatureBlock
    labels: Labels
    weight: Numbers
    user: Keys
    item: Keys
    time: npt.NDArray[np.int64]
    file: str = ""
    first_row: int = 0

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one row group of a sample file.

    ``skip`` counts rows of the group before them and ``first_row`` rows of the file. ``events`` are upper bounds of
    the events of the whole group's sequences.
    """

    file: Path
    group: int
    skip: int
    rows: int
    first_row: int
    events: Mapping[str, int]
    group_rows: int

    def split(self, rows: int) -> list[Piece]:
        """Return the piece in parts of at most ``rows`` rows."""
        return [
            replace(self, skip=self.skip + start, first_row=self.first_row + start, rows=min(rows, self.rows - start))
            for start in range(0, self.rows, rows)
        ]


class SampleFolder:
    """A sample dataset on disk, with its manifest and fitted plan."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder; raises NotFoundError or CorruptionError."""
        self.folder = Path(folder)
        self.manifest: SampleManifest = read_manifest(self.folder)
        self.plan: Plan = read_plan(self.folder)
        self.tasks = tuple(Task(label.name, label.given) for label in self.manifest.labels)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the manifest, which names the samples in a version's lineage."""
        return hashlib.sha256((self.folder / MANIFEST_FILE).read_bytes()).hexdigest()

    @property
    def days(self) -> dict[str, int]:
        """Rows by date, ascending."""
        return {day.date: day.rows for day in sorted(self.manifest.days, key=lambda day: day.date)}

    def empty_days(self, since: str, until: str) -> list[str]:
        """Return the dates from ``since`` to ``until`` of which there are no samples, so that a run can say so."""
        first, last = datetime.date.fromisoformat(since), datetime.date.fromisoformat(until)
        dates = [(first + datetime.timedelta(days)).isoformat() for days in range((last - first).days + 1)]
        return [date for date in dates if not self.days.get(date)]

    def files(self, since: str, until: str) -> list[Path]:
        """Return the files from date ``since`` to ``until`` (both included), in date order.

        Raises CorruptionError for a day that has rows by the manifest but no file.
        """
        files: list[Path] = []
        for date, rows in self.days.items():
            if since <= date <= until:
                found = sorted((self.folder / f"date={date}").glob("*.parquet"))
                if rows and not found:
                    raise CorruptionError(
                        f"{self.folder / f'date={date}'} holds no file, but the manifest says {rows:,} rows.",
                        "Restore the folder or make the samples again.",
                    )
                files += found
        return files

    def read(self, since: str, until: str) -> Iterator[SampleRows]:
        """Yield the samples from date ``since`` to ``until`` (both included), in date order, of one file each.

        Raises CorruptionError for a file that cannot be read and InputError for an impossible value.
        """
        for file in self.files(since, until):
            with _open(file) as parquet:
                yield self._rows_of(file, parquet.read(columns=self._columns(parquet)), 0)

    def pieces(self, since: str, until: str) -> list[Piece]:
        """Return the row groups that hold samples from ``since`` to ``until``, in date order, from the files' footers.

        Raises CorruptionError where they do not hold as many rows as the manifest says.
        """
        pieces: list[Piece] = []
        for file in self.files(since, until):
            with _open(file) as parquet:
                pieces += _pieces_of(file, parquet.metadata, self.plan)
        expected = sum(rows for date, rows in self.days.items() if since <= date <= until)
        found = sum(piece.rows for piece in pieces)
        if found != expected:
            raise CorruptionError(
                f"{self.folder} has {found:,} rows from {since} to {until}, but its manifest says {expected:,}.",
                "Restore the files or make the samples again.",
            )
        return pieces

    def read_parts(self, since: str, until: str) -> Iterator[SampleRows]:
        """Yield the samples from ``since`` to ``until`` in parts of at most 8,192 rows; raises as ``read`` does."""
        for file in self.files(since, until):
            with _open(file) as parquet:
                first_row = 0
                for batch in parquet.iter_batches(_PART_ROWS, columns=self._columns(parquet)):
                    yield self._rows_of(file, pa.Table.from_batches([batch]), first_row)
                    first_row += batch.num_rows
            pa.default_memory_pool().release_unused()

    def read_piece(self, piece: Piece) -> SampleRows:
        """Return the samples of one piece, in memory that is bounded by the piece; raises as ``read`` does."""
        with _open(piece.file) as parquet:
            table = _slice(parquet, piece, self._columns(parquet))
            return self._rows_of(piece.file, table, piece.first_row)

    def read_times(self, piece: Piece) -> npt.NDArray[np.int64]:
        """Return the event times of one piece in microseconds, int64 [rows], without reading anything else."""
        with _open(piece.file) as parquet:
            times: npt.NDArray[np.int64] = _column(_slice(parquet, piece, ["time"]), "time").to_numpy()
            return times

    def read_labels(self, piece: Piece) -> tuple[Labels, Numbers]:
        """Return the labels and weights of one piece without reading anything else."""
        with _open(piece.file) as parquet:
            table = _slice(parquet, piece, ["weight", *(f"label.{task.name}" for task in self.tasks)])
            labels = {task.name: _numbers(table, f"label.{task.name}") for task in self.tasks}
            return _joint_labels(self.tasks, labels), _numbers(table, "weight")

    def _columns(self, parquet: pq.ParquetFile) -> list[str]:
        return [name for name in parquet.schema_arrow.names if name not in _UNUSED]

    def _rows_of(self, file: Path, table: pa.Table, first_row: int) -> SampleRows:
        rows = SampleRows(
            block=_block_of(self.plan, table),
            labels={task.name: _numbers(table, f"label.{task.name}") for task in self.tasks},
            weight=_numbers(table, "weight"),
            user=_keys(table, "user"),
            item=_keys(table, "item"),
            time=_column(table, "time").to_numpy(),
            file=str(file),
            first_row=first_row,
        )
        _check_values(rows)
        return replace(rows, labels=_joint_labels(self.tasks, rows.labels))


@contextmanager
def _open(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file, buffer_size=_READ_BUFFER, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, KeyError, pa.ArrowException) as error:
        raise CorruptionError(f"{file} cannot be read: {error}.", "Make the samples again.") from error


def _pieces_of(file: Path, metadata: Any, plan: Plan) -> list[Piece]:
    """Return a file's row groups that have rows."""
    paths = [metadata.row_group(0).column(place).path_in_schema for place in range(metadata.num_columns)] if (
        metadata.num_row_groups
    ) else []
    places = {
        item.name: next(place for place, path in enumerate(paths) if path.startswith(f"f.{item.name}.age."))
        for item in plan.of_kind("sequence")
        if paths
    }
    pieces: list[Piece] = []
    first_row = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        events = {name: group.column(place).num_values for name, place in places.items()}
        if group.num_rows:
            pieces.append(Piece(file, number, 0, group.num_rows, first_row, events, group.num_rows))
        first_row += group.num_rows
    return pieces


def _slice(parquet: pq.ParquetFile, piece: Piece, columns: list[str]) -> pa.Table:
    """Return a piece of a row group; of a large group only what is asked for stays in memory."""
    if piece.rows == piece.group_rows:
        return parquet.read_row_group(piece.group, columns=columns)
    taken: list[pa.RecordBatch] = []
    start, end, position = piece.skip, piece.skip + piece.rows, 0
    for batch in parquet.iter_batches(min(piece.rows, _PART_ROWS), row_groups=[piece.group], columns=columns):
        overlap = max(start - position, 0), min(end - position, batch.num_rows)
        if overlap[0] < overlap[1]:
            taken.append(batch.slice(overlap[0], overlap[1] - overlap[0]))
        position += batch.num_rows
        if position >= end:
            break
    return pa.Table.from_batches(taken)


def _joint_labels(tasks: tuple[Task, ...], labels: Labels) -> Labels:
    """Make a label that is given another one zero where the other did not happen."""
    joint: Labels = {}
    for task in tasks:
        own = labels[task.name]
        joint[task.name] = own if task.given is None else np.where(joint[task.given] == 0, np.float32(0), own)
    return joint


def _check_values(rows: SampleRows) -> None:
    for name, values in rows.labels.items():
        wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{rows.file}: label {name!r} is {values[row]} in row {rows.first_row + row}, not 0, 1 or null.",
                "Declare the label as a condition that holds or not, and make the samples again.",
            )
    wrong = ~(np.isfinite(rows.weight) & (rows.weight >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{rows.file}: the weight of row {rows.first_row + row} is {rows.weight[row]}, not a number of at least 0.",
            "Make the samples again.",
        )


def _block_of(plan: Plan, table: pa.Table) -> FeatureBlock:
    return FeatureBlock(
        categories={item.name: _keys(table, f"f.{item.name}") for item in plan.of_kind("category")},
        numbers={item.name: _numbers(table, f"f.{item.name}") for item in plan.of_kind("number")},
        sequences={item.name: _ragged(item, table) for item in plan.of_kind("sequence")},
        vectors={item.name: _vectors(item, table) for item in plan.of_kind("vector")},
    )


def _vectors(feature: Feature, table: pa.Table) -> Numbers:
    """Return float32 [rows, width], NaN where null."""
    column = _column(table, f"f.{feature.name}")
    known = column.is_valid().to_numpy(zero_copy_only=False)
    vectors = np.full((len(column), feature.width), np.nan, np.float32)
    vectors[known] = _as_numbers(column.flatten()).reshape(-1, feature.width)
    return vectors


def _ragged(feature: Feature, table: pa.Table) -> Ragged:
    ages = _column(table, f"f.{feature.name}.age")
    offsets = ages.offsets.to_numpy().astype(np.int64)
    fields: dict[str, Keys | Numbers] = {}
    for item in feature.fields:
        values = _column(table, f"f.{feature.name}.{item.name}").flatten()
        fields[item.name] = _as_keys(values) if item.is_category else _as_numbers(values)
    return Ragged(offsets - offsets[0], fields, _as_numbers(ages.flatten()))


def _keys(table: pa.Table, name: str) -> Keys:
    return _as_keys(_column(table, name))


def _numbers(table: pa.Table, name: str) -> Numbers:
    return _as_numbers(_column(table, name))


def _as_keys(values: Any) -> Keys:
    keys: Keys = values.to_numpy(zero_copy_only=False).astype(np.uint64, copy=False)
    return keys


def _as_numbers(values: Any) -> Numbers:
    numbers: Numbers = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return numbers


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name).combine_chunks()
