"""Makes a sample dataset: replayed features joined with labels, as Parquet with a manifest."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, StorageError
from bowerbird.kernels.keys import key_text
from bowerbird.log.reader import LogReader
from bowerbird.log.snapshots import SnapshotStore, open_snapshots
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, build_engine
from bowerbird.plan.spec import Plan
from bowerbird.plan.subset import extended_plan
from bowerbird.samples.fit import fit_plan
from bowerbird.samples.labels import IMMATURE, Outcome, join_labels
from bowerbird.samples.manifest import LabelSummary, SampleManifest
from bowerbird.samples.replay import advance, reads_of_exposures, replay
from bowerbird.samples.writer import SampleWriter, write_manifest

_LOG = logging.getLogger("bowerbird.samples")

Progress = Callable[[int, int], None]
"""Called with (exposures done, exposures in all)."""


def build_samples(
    workspace: Workspace,
    name: str = "default",
    *,
    plan: Plan | None = None,
    since: int | None = None,
    until: int | None = None,
    negative_rate: float = 1.0,
    progress: Progress | None = None,
    beside: Plan | None = None,
) -> SampleManifest:
    """Replay the log and write ``samples/<name>/``, replacing what was there only when done.

    ``since`` and ``until`` (microseconds) bound the exposures' times. ``plan`` is a fitted plan to read with
    (a live bundle's, say); without one the project's is compiled and fitted. Exposures without a positive
    label are kept with probability ``negative_rate`` and weighted by its inverse. Without ``until``, the state at the
    log's end is kept as a snapshot that a server starts from, with the aggregates of ``beside`` (what recall
    reads, say). Raises InputError on an empty log or a rate outside (0, 1].
    """
    if not 0.0 < negative_rate <= 1.0:
        raise InputError(
            f"A negative rate of {negative_rate} is not possible.", "Give more than 0, at most 1."
        )
    snapshots = open_snapshots(workspace)
    reader = LogReader(workspace)
    exposures = reader.exposures()
    if exposures.num_rows == 0:
        raise InputError("The log holds no exposures.", "Run `bowerbird ingest` first.")
    fitted, first_lsn = (
        (plan, 0) if plan is not None else fit_plan(compile_plan(workspace.project), reader, exposures)
    )
    exposures = _between(exposures, first_lsn, since, until)
    labels = join_labels(workspace.project, reader, exposures, reader.frontier)
    kept, weights = _down_sample(exposures, labels, negative_rate)
    extended = fitted if beside is None else extended_plan(fitted, beside)
    encoder, engine = Encoder(extended), build_engine(extended)
    manifest = _write(
        workspace, name, reader, fitted, encoder, engine, exposures, labels, kept, weights, negative_rate, progress
    )
    if until is None:
        advance(reader, encoder, engine)
        _keep_state(snapshots, engine)
    return manifest


def _keep_state(snapshots: SnapshotStore, engine: NativeEngine) -> None:
    """Write the state at the log's end for the server's next start; without it, the server reads the whole log."""
    try:
        snapshots.write(engine.state)
        snapshots.prune([engine.plan])
    except StorageError as error:
        _LOG.warning("%s", error)


def _between(exposures: pa.Table, first_lsn: int, since: int | None, until: int | None) -> pa.Table:
    chosen = pc.greater_equal(exposures.column("_read_lsn"), first_lsn)
    if since is not None:
        chosen = pc.and_(chosen, pc.greater_equal(exposures.column("_read_time"), since))
    if until is not None:
        chosen = pc.and_(chosen, pc.less(exposures.column("_read_time"), until))
    rows = exposures.filter(chosen)
    if rows.num_rows == 0:
        raise InputError(
            "No exposure lies in the range asked for.", "Widen --since and --until, or move fit_until."
        )
    return rows.sort_by([("_read_lsn", "ascending"), ("_lsn", "ascending")])


def _down_sample(
    exposures: pa.Table, labels: dict[str, Outcome], rate: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the rows kept and their weights: the draw depends on the exposure's id alone."""
    count = exposures.num_rows
    if rate == 1.0:
        return np.arange(count), np.ones(count, dtype=np.float32)
    negative = np.logical_and.reduce([outcome != 1 for outcome in labels.values()])
    draws = np.array([key_text(identity) / 2.0**64 for identity in exposures.column("_id").to_pylist()])
    kept = np.flatnonzero(~negative | (draws < rate))
    return kept, np.where(negative[kept], 1.0 / rate, 1.0).astype(np.float32)


def _write(
    workspace: Workspace,
    name: str,
    reader: LogReader,
    plan: Plan,
    encoder: Encoder,
    engine: NativeEngine,
    exposures: pa.Table,
    labels: dict[str, Outcome],
    kept: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    negative_rate: float,
    progress: Progress | None,
) -> SampleManifest:
    taken = exposures.take(pa.array(kept))
    reads = reads_of_exposures(encoder, taken)
    base = _base_columns(
        workspace, taken, reads.slots, plan, {n: o[kept] for n, o in labels.items()}, weights
    )
    temporary = workspace.samples_folder / f".{name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    started = time.perf_counter()
    with SampleWriter(temporary, plan) as writer:
        for rows in replay(reader, encoder, engine, reads):
            writer.write(base.slice(rows.start, rows.rows), rows.block)
            if progress is not None:
                progress(rows.start + rows.rows, taken.num_rows)
    manifest = SampleManifest(
        name=name,
        project=plan.project,
        plan=plan.fingerprint,
        aggregates=[aggregate.fingerprint for aggregate in plan.aggregates],
        rows=taken.num_rows,
        exposures=exposures.num_rows,
        negative_rate=negative_rate,
        first_lsn=int(reads.positions[0]),
        last_lsn=int(reads.positions[-1]),
        first_time=int(reads.times.min()),
        last_time=int(reads.times.max()),
        log_size=reader.size,
        labels=[_summary(workspace, label, outcome) for label, outcome in labels.items()],
        days=writer.days,
        features=[feature.name for feature in plan.features],
        files=file_hashes(temporary),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        replay_seconds=time.perf_counter() - started,
        replay_records=engine.lsn,
    )
    write_manifest(temporary, plan, manifest)
    replace_folder(temporary, workspace.samples_folder / name)
    return manifest


def _base_columns(
    workspace: Workspace,
    exposures: pa.Table,
    slots: npt.NDArray[np.uint64],
    plan: Plan,
    labels: dict[str, Outcome],
    weights: npt.NDArray[np.float32],
) -> pa.Table:
    columns = {
        "lsn": exposures.column("_lsn"),
        "read_lsn": exposures.column("_read_lsn"),
        "time": exposures.column("_read_time"),
        "user": pa.array(slots[plan.user_slot]),
        "item": pa.array(slots[plan.item_slot]),
        "exposure_id": exposures.column("_id"),
        "weight": pa.array(weights),
    }
    for name, outcome in labels.items():
        columns[f"label.{name}"] = pa.array(outcome, mask=outcome == IMMATURE)
    return pa.table(columns)


def _summary(workspace: Workspace, name: str, outcome: Outcome) -> LabelSummary:
    label = next(label for label in workspace.project.labels if label.name == name)
    given = label.given.name if label.given is not None else None
    immature = int((outcome == IMMATURE).sum())
    return LabelSummary(name, len(outcome) - immature, int((outcome == 1).sum()), immature, given)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a dataset's Parquet files by relative path."""
    files = sorted(folder.rglob("*.parquet"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def replace_folder(temporary: Path, target: Path) -> None:
    """Put a finished folder in place of an older one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)
