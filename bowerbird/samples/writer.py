"""Writes sample rows as Parquet, one folder a day."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.functions import function_files
from bowerbird.plan.spec import Plan
from bowerbird.samples.manifest import MANIFEST_FILE, PLAN_FILE, DayCount, SampleManifest

_DAY = 86_400_000_000
PREFIX = "f."
ROW_GROUP = 8192
"""Rows of a row group: what a stream of training samples reads and shuffles as one."""


class SampleWriter:
    """Appends rows to ``date=YYYY-MM-DD/part-0.parquet`` under a folder; a context manager."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._plan = plan
        self._writers: dict[int, pq.ParquetWriter] = {}
        self._rows: dict[int, int] = {}

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    @property
    def days(self) -> list[DayCount]:
        """Rows written so far, by day."""
        return [DayCount(_date(day), rows) for day, rows in sorted(self._rows.items())]

    def write(self, base: pa.Table, block: FeatureBlock) -> None:
        """Append rows: ``base`` columns as docs/design.md lists them, and their features."""
        table = with_features(base, self._plan, block)
        days = base.column("time").to_numpy() // _DAY
        for day in np.unique(days):
            rows = table.filter(pa.array(days == day))
            self._writer(int(day), table.schema).write_table(rows, row_group_size=ROW_GROUP)
            self._rows[int(day)] = self._rows.get(int(day), 0) + rows.num_rows

    def _writer(self, day: int, schema: pa.Schema) -> pq.ParquetWriter:
        if day not in self._writers:
            file = self._folder / f"date={_date(day)}" / "part-0.parquet"
            file.parent.mkdir()
            self._writers[day] = pq.ParquetWriter(file, schema, compression="zstd")
        return self._writers[day]


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def with_features(base: pa.Table, plan: Plan, block: FeatureBlock) -> pa.Table:
    """Return the base columns followed by each feature's, as docs/design.md names them."""
    columns: dict[str, Any] = {name: base.column(name) for name in base.column_names}
    for feature in plan.features:
        name = PREFIX + feature.name
        if feature.kind == "category":
            columns[name] = pa.array(block.categories[feature.name])
        elif feature.kind == "number":
            columns[name] = pa.array(block.numbers[feature.name])
        elif feature.kind == "vector":
            columns[name] = vector_column(block.vectors[feature.name])
        else:
            columns |= _sequence_columns(name, block.sequences[feature.name])
    return pa.table(columns)


def vector_column(vectors: npt.NDArray[np.float32]) -> pa.Array:
    """Return float32 [rows, width] as fixed-size lists; null where a row is unknown (NaN)."""
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    unknown = pa.array(np.isnan(vectors).any(axis=1))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=unknown)


def _sequence_columns(name: str, sequence: Ragged) -> dict[str, pa.Array]:
    columns = {
        f"{name}.{field}": _lists(sequence.offsets, values) for field, values in sequence.fields.items()
    }
    columns[f"{name}.age"] = _lists(sequence.offsets, sequence.age)
    return columns


def _lists(offsets: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def write_manifest(folder: Path, plan: Plan, manifest: SampleManifest) -> None:
    """Write the sources of the plan's functions, the plan and, last, the manifest; all are flushed to the disk."""
    for name, data in (
        *function_files(plan).items(),
        (PLAN_FILE, plan.to_json()),
        (MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest))),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
