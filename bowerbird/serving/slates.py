"""The log of served slates: append-only segments, one write per slate, read back in order."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from bowerbird.durable import write_atomically
from bowerbird.serving.slate import Buffer, Slate, decode_slate, encode_slate
from bowerbird.serving.slate_records import framed, read_record, records_in
from bowerbird.serving.slate_segments import begin_segment, open_segments

_LOG = logging.getLogger("bowerbird.serving")
SEGMENT_BYTES = 128 << 20
_MOST_BUFFERS = 1000
"""A system takes 1,024 at a time at least."""
_WARNING_SECONDS = 10.0
"""Between two warnings: a disk that is full is not to be filled with them when it is freed."""


class SlateLog:
    """Writes slates to ``folder``; each is one write() without fsync, so that answers do not wait for the disk.

    A slate that the disk refuses is counted in ``lost``, with a warning now and then, and its answer goes out all the
    same. A segment ends at ``segment_bytes``, and with ``end_old_segment`` after ``segment_seconds``. Memory that the
    system keeps of what was written is given back by ``spare_memory``, a second or so later.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES, segment_seconds: float = math.inf) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._lock = threading.Lock()
        self._file = folder
        self._descriptor = -1
        self._size = 0
        self._begun = 0.0
        self._ended: list[Path] = []
        self._written: list[Path] = []
        self._warned = -math.inf
        self.written = 0
        self.lost = 0

    def append(self, slate: Slate) -> None:
        """Write one slate."""
        record = framed(*encode_slate(slate))
        with self._lock:
            self._write(record)

    def end_old_segment(self) -> None:
        """End a segment that was begun long ago, so that it may be removed in time although little is written."""
        with self._lock:
            if time.monotonic() - self._begun >= self._segment_seconds:
                self._end_segment()

    def spare_memory(self) -> None:
        """Have the system write what was logged, and forget what it has written by now: nobody reads it soon.

        It would keep it as long as there is memory, tens of megabytes a second under load, and let go of what is read
        instead: mapped tables. Raises OSError.
        """
        with self._lock:
            files = [*self._ended, *self._written, *([self._file] if self._descriptor >= 0 else [])]
            self._ended, self._written = [], self._ended
        for file in files:
            _forget(file)

    def close(self) -> None:
        """Flush to the disk and end the segment."""
        with self._lock:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
            self._end_segment()

    def _write(self, data: Sequence[Buffer]) -> None:
        size = sum(map(len, data))
        if len(data) > _MOST_BUFFERS:
            data = [b"".join(data)]
        try:
            if self._descriptor < 0 or self._size >= self._segment_bytes:
                self._new_segment()
            written = os.writev(self._descriptor, data)
            if written != size:
                raise OSError(f"{written} of {size} bytes written")
        except OSError as error:
            self._give_up(error)
            return
        self._size += size
        self.written += 1

    def _give_up(self, error: OSError) -> None:
        """Cut what was half written, so that the segment stays readable, and begin another one next time."""
        self.lost += 1
        if time.monotonic() - self._warned >= _WARNING_SECONDS:
            self._warned = time.monotonic()
            _LOG.warning("a slate was not logged, %d until now: %s", self.lost, error)
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, self._size)
            if self._size == 0:
                self._file.unlink(missing_ok=True)
        self._end_segment()

    def _new_segment(self) -> None:
        self._end_segment()
        self._file, self._descriptor = begin_segment(self._folder)
        self._size = 0
        self._begun = time.monotonic()

    def _end_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._ended.append(self._file)
        self._descriptor = -1


def _forget(file: Path) -> None:
    """Drop from memory what is on the disk of a file, and have the rest written."""
    if not hasattr(os, "posix_fadvise"):
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def iterate_slates(folder: Path) -> Iterator[Slate]:
    """Yield the slates of a folder, oldest segment first; a torn last record of a segment is skipped.

    So is a segment that is removed meanwhile. Raises CorruptionError where bytes before the end of a segment are
    damaged.
    """
    for file, stream in open_segments(folder):
        for record in records_in(stream):
            yield decode_slate(read_record(stream, record, file))


def remove_slates(folder: Path, unwanted: Callable[[Slate], bool]) -> int:
    """Delete the slates for which ``unwanted`` holds, a segment at a time, and return how many went.

    No server may write the folder meanwhile. Raises CorruptionError as ``iterate_slates`` does, StorageError.
    """
    removed = 0
    for file, stream in open_segments(folder):
        payloads = [read_record(stream, record, file) for record in records_in(stream)]
        kept = [payload for payload in payloads if not unwanted(decode_slate(payload))]
        if len(kept) < len(payloads):
            _replace(file, b"".join(chain.from_iterable(map(framed, kept))))
            removed += len(payloads) - len(kept)
    return removed


def _replace(file: Path, content: bytes) -> None:
    """Write a segment anew; what is left in it is as old as before."""
    written = file.stat().st_mtime_ns
    write_atomically(file, content)
    os.utime(file, ns=(written, written))
