"""From a table of ready-made columns to a sample folder that training takes as any other."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from bowerbird.errors import InputError
from bowerbird.plan.spec import Plan
from bowerbird.samples.build import Progress, file_hashes, replace_folder
from bowerbird.samples.columns import ReadyColumns
from bowerbird.samples.columns_encode import ReadyEncoder
from bowerbird.samples.columns_plan import ReadyNames, ReadyPlan
from bowerbird.samples.columns_read import TablePart, files_of, read_parts
from bowerbird.samples.manifest import LabelSummary, SampleManifest
from bowerbird.samples.writer import SampleWriter, write_manifest


def build_from_columns(
    samples_folder: Path,
    name: str,
    columns: ReadyColumns,
    folder: Path,
    *,
    names: ReadyNames | None = None,
    progress: Progress | None = None,
) -> SampleManifest:
    """Write ``samples_folder/name/`` from a table's own features, replacing what was there only when done.

    Files are relative to ``folder``. ``names`` are of the project that is to serve the model. ``progress`` is told
    the files begun and all. Raises InputError that names file, row and value of what cannot be, NotFoundError
    without a file, CorruptionError for one that cannot be read.
    """
    temporary = samples_folder / f".{name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    samples_folder.mkdir(parents=True, exist_ok=True)
    written = _Written(columns, temporary, names or ReadyNames())
    files = [file for file, _ in files_of(columns, folder)]
    try:
        for part in read_parts(columns, folder):
            written.add(part)
            if progress is not None:
                progress(files.index(part.file) + 1, len(files))
        manifest = written.finish(name)
    except BaseException:
        written.close()
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    replace_folder(temporary, samples_folder / name)
    return manifest


class _Written:
    """What has been written of one dataset: counts for its manifest."""

    def __init__(self, columns: ReadyColumns, folder: Path, names: ReadyNames) -> None:
        self._columns = columns
        self._folder = folder
        self._names = names
        self._encoder: ReadyEncoder | None = None
        self._writer: SampleWriter | None = None
        self._schema: tuple[Path, pa.Schema] | None = None
        self._rows = 0
        self._times: list[int] = []
        self._mature = dict.fromkeys(columns.labels, 0)
        self._positives = dict.fromkeys(columns.labels, 0)

    def add(self, part: TablePart) -> None:
        encoder, writer = self._begin(part)
        if not part.table.num_rows:
            return
        base = encoder.base(part, self._rows)
        writer.write(base, encoder.block(part))
        self._rows += part.table.num_rows
        times = base.column("time").to_numpy()
        self._times += [int(times.min()), int(times.max())]
        for label in self._columns.labels:
            values = base.column(f"label.{label}")
            self._mature[label] += len(values) - values.null_count
            self._positives[label] += int(np.nansum(values.to_numpy(zero_copy_only=False).astype(np.float64)))

    def _begin(self, part: TablePart) -> tuple[ReadyEncoder, SampleWriter]:
        if self._encoder is None or self._writer is None:
            plan = ReadyPlan(self._columns, part.table.schema, self._names)
            self._encoder = ReadyEncoder(self._columns, plan.build(), plan.types)
            self._writer = SampleWriter(self._folder, self._encoder.plan)
            self._schema = part.file, part.table.schema
        elif self._schema is not None and part.first == 0:
            self._check_types(part)
        return self._encoder, self._writer

    def _check_types(self, part: TablePart) -> None:
        """Refuse a file whose categories' types give other plans: their keys would never meet the first file's."""
        assert self._schema is not None and self._encoder is not None
        here = ReadyPlan(self._columns, part.table.schema, self._names)
        plan = here.build()
        for column, kind in self._encoder.types.items():
            if here.types[column] != kind:
                raise InputError(
                    f"Column {column!r} is {kind} in {self._schema[0]} and {here.types[column]} in {part.file}.",
                    "Write both with one type, or declare the column's type.",
                )
        if plan.features != self._encoder.plan.features:
            raise InputError(
                f"The features of {part.file} are not those of {self._schema[0]}.", "Write both with the same columns."
            )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)

    def finish(self, name: str) -> SampleManifest:
        self.close()
        if self._writer is None or self._encoder is None or not self._rows:
            raise InputError("The files hold no row.", "Name files that hold some.")
        plan = self._encoder.plan
        manifest = self._manifest(name, plan)
        write_manifest(self._folder, plan, manifest)
        return manifest

    def _manifest(self, name: str, plan: Plan) -> SampleManifest:
        assert self._writer is not None
        return SampleManifest(
            name=name,
            project=plan.project,
            plan=plan.fingerprint,
            aggregates=[aggregate.fingerprint for aggregate in plan.aggregates],
            rows=self._rows,
            exposures=self._rows,
            negative_rate=1.0,
            first_lsn=0,
            last_lsn=self._rows - 1,
            first_time=min(self._times),
            last_time=max(self._times),
            log_size=self._rows,
            labels=[
                LabelSummary(label, self._mature[label], self._positives[label], self._rows - self._mature[label],
                             declared.given)
                for label, declared in self._columns.labels.items()
            ],
            days=self._writer.days,
            features=[feature.name for feature in plan.features],
            files=file_hashes(self._folder),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
