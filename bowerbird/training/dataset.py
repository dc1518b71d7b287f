"""Reads a sample folder: features, labels, weights and times as NumPy columns, day by day."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
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

Labels = dict[str, Numbers]
"""By task, float32: 1, 0, or NaN while immature."""


@dataclass(frozen=True)
class SampleRows:
    """Some samples: ``weight`` float32, ``user`` and ``item`` uint64 keys, ``time`` int64 microseconds."""

    block: FeatureBlock
    labels: Labels
    weight: Numbers
    user: Keys
    item: Keys
    time: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)


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

    def read(self, since: str, until: str) -> Iterator[SampleRows]:
        """Yield the samples of each file from date ``since`` to ``until`` (both included), in date order.

        Raises CorruptionError for a file that cannot be read and InputError for an impossible value.
        """
        for date in self.days:
            if since <= date <= until:
                for file in sorted((self.folder / f"date={date}").glob("*.parquet")):
                    yield self._read_file(file)

    def _read_file(self, file: Path) -> SampleRows:
        try:
            with pq.ParquetFile(file) as parquet:
                table = parquet.read()
            rows = SampleRows(
                block=_block_of(self.plan, table),
                labels={task.name: _numbers(table, f"label.{task.name}") for task in self.tasks},
                weight=_numbers(table, "weight"),
                user=_keys(table, "user"),
                item=_keys(table, "item"),
                time=_column(table, "time").to_numpy(),
            )
        except (OSError, KeyError, pa.ArrowException) as error:
            raise CorruptionError(f"{file} cannot be read: {error}.", "Make the samples again.") from error
        _check_values(file, rows)
        return SampleRows(rows.block, _joint_labels(self.tasks, rows.labels), *_rest(rows))


def _rest(rows: SampleRows) -> tuple[Numbers, Keys, Keys, npt.NDArray[np.int64]]:
    return rows.weight, rows.user, rows.item, rows.time


def _joint_labels(tasks: tuple[Task, ...], labels: Labels) -> Labels:
    """Make a label that is given another one zero where the other did not happen."""
    joint: Labels = {}
    for task in tasks:
        own = labels[task.name]
        joint[task.name] = own if task.given is None else np.where(joint[task.given] == 0, np.float32(0), own)
    return joint


def _check_values(file: Path, rows: SampleRows) -> None:
    for name, values in rows.labels.items():
        wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"{file}: label {name!r} is {values[row]} in row {row}, not 0, 1 or null.")
    if not (np.isfinite(rows.weight) & (rows.weight >= 0)).all():
        row = int((~(np.isfinite(rows.weight) & (rows.weight >= 0))).argmax())
        raise InputError(f"{file}: the weight of row {row} is {rows.weight[row]}.", "Make the samples again.")


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
