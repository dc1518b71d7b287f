"""The write-ahead log: live records, durable before they are acknowledged, in LSN order."""

from __future__ import annotations

import os
import threading
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bowerbird.declare.workspace import Workspace
from bowerbird.durable import TEMPORARY_PREFIX, storage_error, storage_errors, sync_folder, write_atomically
from bowerbird.errors import CorruptionError, StorageError, TooLargeError
from bowerbird.log.imported.manifest import read_manifest
from bowerbird.log.live.segment import (
    LARGEST_PAYLOAD,
    Segment,
    SegmentHeader,
    encode_header,
    encode_mark,
    encode_record,
    segment_name,
    segments,
)
from bowerbird.log.live.wal_reader import Payload, read_wal
from bowerbird.log.lock import FolderLock

SEGMENT_BYTES = 64 << 20
WAL_LOCK_REMEDY = "Stop that server first, or send the records to its POST /v1/events."
_REOPEN = "Free space or repair the disk, then restart: what was acknowledged is safe."


@dataclass(frozen=True)
class CutTail:
    """What opening removed: an unsynced write that a crash left unfinished, and so was never acknowledged."""

    file: Path
    offset: int
    bytes: int
    reason: str


class WriteAheadLog:
    """The live log of a folder, opened by its one writer (UnavailableError for a second one).

    ``append`` writes, ``sync`` makes durable; acknowledge only after ``sync``. One thread may append while
    another syncs. LSNs begin at ``base``, the number of imported records in ``log_folder`` when it was begun.
    ``cut`` tells what recovery removed. Raises CorruptionError where acknowledged bytes are damaged.
    """

    def __init__(self, folder: Path, log_folder: Path | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._encoder = msgspec.msgpack.Encoder()
        self._appending = threading.Lock()
        self._syncing = threading.Lock()
        self._failure = ""
        self._descriptor = -1
        self._path = folder
        self._length = self._segment_first = self._marked = self._next_lsn = self._synced_lsn = 0
        self.cut: CutTail | None = None
        self.last_available = 0
        self._lock = FolderLock(folder, WAL_LOCK_REMEDY)
        try:
            imported = read_manifest(log_folder).rows if log_folder is not None else 0
            self.base = self._check_base(imported)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    @property
    def next_lsn(self) -> int:
        """The LSN that the next record gets: how many records the whole log holds."""
        return self._next_lsn

    @property
    def synced_lsn(self) -> int:
        """Records below this LSN are durable."""
        return self._synced_lsn

    def append(self, payloads: Sequence[Mapping[str, Any]], now: int | None = None) -> int:
        """Write records (as ``validate_event`` returns them), all or none, and return the first one's LSN.

        Each gets ``_available``: ``now`` (microseconds, default the clock), never before an earlier record's.
        Raises StorageError on a full disk, with nothing kept; the log stays usable once there is space.
        """
        with self._appending:
            self._require_health()
            available = max(clock.time_ns() // 1_000 if now is None else now, self.last_available)
            first = self._next_lsn
            data = self._encode(payloads, first, available)
            if self._length + len(data) > self._segment_bytes and self._next_lsn > self._segment_first:
                self._rotate()
            marked = self._marked
            if self._synced_lsn > marked:
                marked = self._synced_lsn
                data = encode_mark(marked) + data
            self._write(data)
            self._marked = marked
            self._next_lsn = first + len(payloads)
            self.last_available = available
            return first

    def sync(self) -> int:
        """Make every appended record durable; return the LSN below which they are.

        Raises StorageError when the disk refuses: then nothing more is taken until the log is opened again.
        """
        with self._syncing:
            self._require_health()
            end = self._next_lsn
            if end > self._synced_lsn:
                try:
                    os.fdatasync(self._descriptor)
                except OSError as error:
                    self._failure = str(error)
                    raise StorageError(f"{self._path} cannot be synced: {error}.", _REOPEN) from error
                self._synced_lsn = end
            return self._synced_lsn

    def iterate(self, first_lsn: int = 0) -> Iterator[tuple[int, Payload]]:
        """Yield (LSN, payload) of the records from ``first_lsn`` to the present end."""
        return read_wal(self.folder, first_lsn, self._next_lsn)

    def close(self) -> None:
        """Sync, close and unlock; may be called twice."""
        if self._descriptor < 0:
            return
        try:
            if not self._failure:
                self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            self._lock.release()

    def __enter__(self) -> WriteAheadLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _require_health(self) -> None:
        if self._failure:
            raise StorageError(f"{self.folder} failed earlier: {self._failure}.", _REOPEN)
        if self._descriptor < 0:
            raise StorageError(f"{self.folder} is closed.", "Open it again.")

    def _encode(self, payloads: Sequence[Mapping[str, Any]], first: int, available: int) -> bytes:
        encoded = []
        for lsn, payload in enumerate(payloads, start=first):
            data = self._encoder.encode({**payload, "_available": available})
            if len(data) > LARGEST_PAYLOAD:
                raise TooLargeError(f"A record has {len(data):,} bytes.", f"At most {LARGEST_PAYLOAD:,} are taken.")
            encoded.append(encode_record(lsn, data))
        return b"".join(encoded)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._roll_back()
            raise storage_error(self._path, error) from error
        self._length += len(data)

    def _roll_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._length)
            os.lseek(self._descriptor, self._length, os.SEEK_SET)
        except OSError as error:
            self._failure = str(error)
            raise StorageError(f"{self._path} cannot be rolled back: {error}.", _REOPEN) from error

    def _rotate(self) -> None:
        """Begin a segment; the finished one is durable before the new one exists."""
        self.sync()
        with self._syncing:
            path = self._create_segment(self._next_lsn)
            os.close(self._descriptor)
            self._open_segment(path, self._next_lsn)

    def _create_segment(self, first_lsn: int) -> Path:
        path = self.folder / segment_name(first_lsn)
        write_atomically(path, encode_header(SegmentHeader(first_lsn, self.base)))
        return path

    def _open_segment(self, path: Path, first_lsn: int) -> None:
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._length = os.lseek(self._descriptor, 0, os.SEEK_END)
        self._path = path
        self._segment_first = first_lsn
        self._marked = first_lsn

    def _check_base(self, imported: int) -> int:
        """Return the base LSN; an empty log is begun anew after whatever has been imported."""
        for leftover in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink()
        remove_empty_wal(self.folder, imported)
        paths = segments(self.folder)
        if not paths:
            return imported
        base = Segment(paths[0]).header.base
        if base != imported:
            raise CorruptionError(
                f"{self.folder} follows {base:,} imported records, and the imported log has {imported:,}.",
                "The two folders do not belong together: restore both from one backup.",
            )
        return base

    def _recover(self) -> None:
        paths = segments(self.folder) or [self._create_segment(self.base)]
        last = Segment(paths[-1])
        newest = _exhaust(last)
        if last.fault is not None:
            self._cut_tail(last)
        if newest is None and len(paths) > 1:
            newest = _exhaust(Segment(paths[-2]))
        if newest is not None:
            self.last_available = int(msgspec.msgpack.decode(newest)["_available"])
        self._next_lsn = self._synced_lsn = last.next_lsn
        self._open_segment(last.path, last.header.first_lsn)
        with storage_errors(last.path):
            os.fsync(self._descriptor)

    def _cut_tail(self, segment: Segment) -> None:
        if segment.fault_was_acknowledged():
            raise segment.corruption()
        self.cut = CutTail(segment.path, segment.end, segment.size() - segment.end, str(segment.fault))
        with storage_errors(segment.path):
            os.truncate(segment.path, segment.end)


def open_wal(workspace: Workspace) -> WriteAheadLog:
    """Open a workspace's write-ahead log for writing; its LSNs follow the imported log."""
    return WriteAheadLog(workspace.wal_folder, workspace.log_folder)


def remove_empty_wal(folder: Path, imported: int) -> None:
    """Remove a log that holds no record and follows another number of imported ones; only for its writer."""
    paths = segments(folder)
    if len(paths) != 1:
        return
    segment = Segment(paths[0])
    if _exhaust(segment) is None and segment.header.base != imported and not segment.fault_was_acknowledged():
        with storage_errors(folder):
            paths[0].unlink()
            sync_folder(folder)


def _exhaust(segment: Segment) -> bytes | None:
    """Return a segment's last whole payload, after reading all of them."""
    newest = None
    for _, payload in segment.records():
        newest = payload
    return newest
