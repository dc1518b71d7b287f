"""Ingest: raw files to the log, once each, whole or not at all."""

from __future__ import annotations

import hashlib
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.records import Source
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, NotFoundError
from bowerbird.log.dead_letters import DeadLetterFile
from bowerbird.log.erasure.returning import Forgotten
from bowerbird.log.imported.deduplicate import split_by_id, split_orphans, without_duplicates, without_stored
from bowerbird.log.imported.live_import import Destination, open_destination
from bowerbird.log.imported.spill import Spill
from bowerbird.log.rows.faults import NOTHING_TO_RETRACT
from bowerbird.log.rows.mapping import SourceMapper
from bowerbird.log.schema import ID, record_named
from bowerbird.log.sources.formats import open_reader
from bowerbird.log.sources.layout import Layout
from bowerbird.log.sources.progress import IngestProgress
from bowerbird.log.sources.readers import RawBatch, RawReader, TableReader, raw_row, source_files
from bowerbird.log.sources.report import IngestReport
from bowerbird.plan.mistake import nearest

TOLERANCE = "1d"
"""How far after now an event may lie before it is from the future."""

RETRACTIONS = "retractions"
"""The source under which dead letters list retractions of nothing; their file is the record type."""


@dataclass(frozen=True)
class _Job:
    """One file (or table) of one source."""

    source: Source
    name: str
    size: int
    open: Callable[[], RawReader]


def ingest(
    workspace: Workspace,
    sources: Sequence[str] | None = None,
    *,
    now: int | None = None,
    tolerance: str = TOLERANCE,
    progress: bool = True,
) -> IngestReport:
    """Read the files of all or the named sources into the log; what is there already stays as it is.

    ``now`` is the current time in microseconds. Either everything becomes part of the log or, on any error,
    nothing. Raises InputError (file, column), UnavailableError (another writer), StorageError (disk).
    """
    chosen = [_source_named(workspace.project, name) for name in sources] if sources else workspace.project.sources
    return _Ingest(workspace, now, tolerance).run(list(_file_jobs(workspace, chosen)), progress)


def ingest_table(
    workspace: Workspace, source: str, table: pa.Table, *, now: int | None = None, tolerance: str = TOLERANCE
) -> IngestReport:
    """Read an Arrow table in memory as if it were a file of the named source; see ``ingest``."""
    digest = hashlib.sha256()
    for batch in table.to_batches():
        digest.update(batch.serialize())
    name = f"table-{digest.hexdigest()[:16]}"
    job = _Job(_source_named(workspace.project, source), name, table.nbytes, partial(TableReader, table))
    return _Ingest(workspace, now, tolerance).run([job], progress=False)


def _source_named(project: Project, name: str) -> Source:
    for source in project.sources:
        if source.name == name:
            return source
    raise NotFoundError(f"The project has no source {name!r}.", nearest(name, [s.name for s in project.sources]))


def _file_jobs(workspace: Workspace, sources: Iterable[Source]) -> Iterator[_Job]:
    for source in sources:
        for path in source_files(workspace.raw_folder, source.files, source.name):
            opener = partial(open_reader, path, Layout(source).vector_columns())
            yield _Job(source, _shown(path, workspace.raw_folder), path.stat().st_size, opener)


def _shown(path: Path, raw_folder: Path) -> str:
    return str(path.relative_to(raw_folder)) if path.is_relative_to(raw_folder) else str(path)


class _Ingest:
    def __init__(self, workspace: Workspace, now: int | None, tolerance: str) -> None:
        self._workspace = workspace
        self._now = clock.time_ns() // 1_000 if now is None else now
        try:
            self._latest = self._now + microseconds(tolerance)
        except ValueError as error:
            raise InputError(f"The tolerance is wrong: {error}.") from error
        self._report = IngestReport()
        self._letters: list[DeadLetterFile] = []
        self._heaps: dict[str, Spill] = {}
        self._forgotten = Forgotten(workspace)

    def run(self, jobs: list[_Job], progress: bool) -> IngestReport:
        started = clock.monotonic()
        bar = IngestProgress([job.size for job in jobs], progress)
        with open_destination(self._workspace, self._now) as destination, bar:
            try:
                for number, job in enumerate(jobs):
                    self._read(job, number, destination, bar)
                bar.storing()
                self._store(destination)
            finally:
                for letters in self._letters:
                    letters.discard()
        self._report.live = destination.live
        self._report.seconds = clock.monotonic() - started
        return self._report

    def _read(self, job: _Job, number: int, destination: Destination, bar: IngestProgress) -> None:
        mapper = SourceMapper(job.source, self._latest)
        letters = DeadLetterFile(self._workspace.dead_letter_folder, job.source.name, job.name)
        self._letters.append(letters)
        reader = job.open()
        names = reader.columns()
        layout = Layout(job.source)
        columns = layout.check(job.name, names) if names else []
        for item in reader.batches(columns):
            if isinstance(item, RawBatch):
                columns = columns or layout.check(job.name, names)
                self._take(item, mapper, letters, destination)
            else:
                letters.add(item.reason, item.detail, item.line, text=item.text)
                self._report.rejected[item.reason] += 1
            bar.update(number, job.name, reader.fraction(), self._report.rows)
        letters.finish()

    def _take(self, batch: RawBatch, mapper: SourceMapper, letters: DeadLetterFile, destination: Destination) -> None:
        mapped = mapper.map(batch.rows)
        self._report.rows += batch.rows.num_rows
        self._report.late.update(mapped.late)
        for name, every in mapped.tables:
            table = self._forgotten.without(name, every)
            self._report.forgotten += every.num_rows - table.num_rows
            if name not in self._heaps:
                self._heaps[name] = Spill(destination.staging_folder / name, split_by_id)
            self._heaps[name].add(table)
        for row in mapped.faults.rejected:
            raw = raw_row(batch, int(row))
            if self._forgotten.named_in(raw):
                self._report.forgotten += 1
                continue
            reason, detail = mapped.faults.describe(row, raw)
            letters.add(reason, detail, int(batch.lines[row]), raw)
            self._report.rejected[reason] += 1

    def _store(self, destination: Destination) -> None:
        for name, heap in sorted(self._heaps.items()):
            self._report.of_type(name)
            letters = DeadLetterFile(self._workspace.dead_letter_folder, RETRACTIONS, name)
            self._letters.append(letters)
            for read in heap.shares():
                self._store_share(name, read, letters, destination)
            letters.finish()
        for letters in self._letters:
            letters.commit()
        destination.commit()

    def _store_share(self, name: str, read: pa.Table, letters: DeadLetterFile, destination: Destination) -> None:
        record = record_named(self._workspace.project, name)
        new = without_stored(without_duplicates(read), destination.stored_ids(record))
        new, orphans = split_orphans(new, read, destination.stored_ids(record))
        for orphan in orphans.to_pylist():
            detail = f"{name!r} {orphan[ID]!r}: the log has no record that it would take back"
            letters.add(NOTHING_TO_RETRACT, detail, 0, orphan)
            self._report.rejected[NOTHING_TO_RETRACT] += 1
        self._report.count(name, read, new, orphans)
        if new.num_rows:
            destination.add(name, new)
