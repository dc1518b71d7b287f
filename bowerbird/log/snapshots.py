"""Snapshots of feature state in a project's data folder: written whole or not at all, chosen at a start."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bowerbird.declare.workspace import Workspace
from bowerbird.durable import TEMPORARY_PREFIX, make_folder, storage_errors, sync_folder
from bowerbird.errors import BowerbirdError, CorruptionError
from bowerbird.log.imported.manifest import read_manifest
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState
from bowerbird.plan.subset import Held, held_by

_LOG = logging.getLogger("bowerbird.serving")
_HEADER = struct.Struct("<8sQQqQ")
_MAGIC = b"BBBSNP02"
_SUFFIX = ".snapshot"
_KEPT = 2
_KEPT_UNUSED = 3
_LEAST_SHARE = 0.5
MakeState = Callable[[Plan], FeatureState]
"""Returns an empty state of a plan."""


@dataclass(frozen=True)
class Snapshot:
    """A file that holds the state of ``plan``; the log from ``lsn`` on follows. ``written`` in seconds since 1970."""

    file: Path
    plan: Plan
    lsn: int
    written: float


class SnapshotStore:
    """The snapshots of one log's state: ``<group>/<lsn>.snapshot``, the newest two of each group of aggregates.

    A group's folder is named after its plan and the imported log, so that a snapshot of another log is never taken.
    ``skipped`` counts damaged snapshots, ``failed`` those that could not be written.
    """

    def __init__(self, folder: Path, log_identity: str) -> None:
        self.folder = folder
        self.skipped = 0
        self.failed = 0
        self._log_identity = log_identity
        self._remove_temporary()

    def write(self, state: FeatureState) -> Snapshot:
        """Write a state's snapshot durably, while its writer goes on; raises StorageError with nothing left behind."""
        folder = self._group_folder(state.plan)
        temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{threading.get_ident()}{_SUFFIX}"
        try:
            make_folder(folder)
            state.snapshot(temporary)
            with storage_errors(temporary):
                _, lsn = _read_header(temporary)
                file = folder / f"{lsn:020d}{_SUFFIX}"
                temporary.replace(file)
                sync_folder(folder)
        except BowerbirdError:
            self.failed += 1
            temporary.unlink(missing_ok=True)
            raise
        for old in sorted(folder.glob(f"[0-9]*{_SUFFIX}"))[:-_KEPT]:
            old.unlink(missing_ok=True)
        return _snapshot(file, state.plan, lsn)

    def restore(self, needed: Collection[Held], make: MakeState, until: int) -> tuple[FeatureState, Snapshot] | None:
        """Return a state from the snapshot that holds most of what is ``needed``; None where none is of use.

        Damaged ones, ones that do not fit into memory, and ones that are ahead of LSN ``until`` are skipped and
        counted: an older one takes their place. The log from the state's LSN on has to follow.
        """
        for snapshot in self._candidates(set(needed)):
            try:
                return _restored(snapshot, make, until), snapshot
            except BowerbirdError as error:
                self._skip(snapshot.file, error)
        return None

    def prune(self, plans: Collection[Plan]) -> None:
        """Remove the snapshots of other logs, and those of groups not in use but for the newest three."""
        used = {self._group_folder(plan) for plan in plans}
        others = [folder for folder in self._folders() if folder not in used]
        own = [folder for folder in others if self._is_own(folder)]
        kept = sorted(own, key=lambda folder: folder.stat().st_mtime_ns)[-_KEPT_UNUSED:]
        for folder in set(others) - set(kept):
            shutil.rmtree(folder, ignore_errors=True)

    def _candidates(self, needed: set[Held]) -> Iterator[Snapshot]:
        """Yield snapshots to try: those that hold most of what is needed first, of one group the newest first.

        One that is mostly of no use is left out: what it holds would take memory for nothing.
        """
        found = []
        for folder in filter(self._is_own, self._folders()):
            for file in folder.glob(f"[0-9]*{_SUFFIX}"):
                snapshot = self._open(file)
                held = held_by(snapshot.plan) if snapshot is not None else set()
                useful = len(held & needed)
                if snapshot is not None and useful and useful >= _LEAST_SHARE * len(held):
                    found.append((useful, snapshot.lsn, str(file), snapshot))
        yield from (snapshot for *_, snapshot in sorted(found, key=lambda each: each[:3], reverse=True))

    def _open(self, file: Path) -> Snapshot | None:
        try:
            plan, lsn = _read_header(file)
            if self._group_folder(plan) != file.parent:
                raise CorruptionError(f"{file} holds another plan than its folder says.", "Delete it.")
            return _snapshot(file, plan, lsn)
        except (CorruptionError, OSError) as error:
            self._skip(file, error)
            return None

    def _skip(self, file: Path, error: Exception) -> None:
        self.skipped += 1
        _LOG.warning("the snapshot %s is skipped: %s", file, error)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*") if path.is_dir())

    def _is_own(self, folder: Path) -> bool:
        return folder.name.endswith(f"-{self._log_identity}")

    def _group_folder(self, plan: Plan) -> Path:
        return self.folder / f"{plan.fingerprint}-{self._log_identity}"

    def _remove_temporary(self) -> None:
        for file in self.folder.glob(f"*/{TEMPORARY_PREFIX}*{_SUFFIX}"):
            owner, _, _ = file.name.removeprefix(TEMPORARY_PREFIX).removesuffix(_SUFFIX).partition("-")
            if not owner.isdigit() or not _is_alive(int(owner)):
                file.unlink(missing_ok=True)


def open_snapshots(workspace: Workspace) -> SnapshotStore:
    """Return the snapshots of a workspace's log as it is now; raises CorruptionError for a damaged manifest."""
    manifest = msgspec.json.encode(read_manifest(workspace.log_folder))
    return SnapshotStore(workspace.state_folder, hashlib.sha256(manifest).hexdigest()[:16])


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _snapshot(file: Path, plan: Plan, lsn: int) -> Snapshot:
    return Snapshot(file, plan, lsn, file.stat().st_mtime)


def _restored(snapshot: Snapshot, make: MakeState, until: int) -> FeatureState:
    state = make(snapshot.plan)
    try:
        state.restore(snapshot.file)
        if state.restored_to > until:
            raise CorruptionError(
                f"{snapshot.file} is at record {state.restored_to:,} of a log of {until:,}.",
                "Delete the snapshot: the log is another one, or was cut.",
            )
    except BowerbirdError:
        if state.options.path:
            Path(state.options.path).unlink(missing_ok=True)
        raise
    return state


def _read_header(file: Path) -> tuple[Plan, int]:
    """Return a snapshot's plan and LSN; CorruptionError for what is none, OSError."""
    with file.open("rb") as stream:
        head = stream.read(_HEADER.size)
        magic, plan_bytes, _, lsn, _ = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC or not 0 <= plan_bytes <= file.stat().st_size or lsn < 0:
            raise CorruptionError(f"{file} is not a snapshot.", "Delete it: the state is made anew from the log.")
        try:
            return Plan.from_json(stream.read(plan_bytes)), lsn
        except msgspec.MsgspecError as error:
            raise CorruptionError(f"{file} holds no plan: {error}.", "Delete it.") from error
