"""Bytes of a plain or compressed text file that may end early: whole lines are kept, the rest is told."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import IO

import pyarrow as pa

CHUNK = 1 << 20


class LineStream(io.RawIOBase):
    """A readable stream that delivers only whole lines once its source breaks off.

    ``broken`` says why it ended early, or is None; ``lost`` is the beginning of the line that it cut.
    ``quotes`` counts the double quotes delivered. A byte order mark is skipped.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = max(1, os.fstat(self._file.fileno()).st_size)
        self._source = _decompressed(self._file, path.suffix)
        self._pending = b""
        self._buffered = memoryview(b"")
        self._ended = False
        self.broken: str | None = None
        self.lost = b""
        self.quotes = 0
        self._fill()
        self._pending = self._pending.removeprefix(b"\xef\xbb\xbf")

    def first_line(self) -> bytes:
        """Return the first line without its end, before anything is read; empty for an empty file."""
        while b"\n" not in self._pending and not self._ended:
            self._fill()
        return self._pending.split(b"\n", 1)[0].rstrip(b"\r")

    def fraction(self) -> float:
        """Return how much of the file has been read, 0 to 1."""
        return min(1.0, self._file.tell() / self._size)

    def read_lines(self, limit: int = CHUNK) -> bytes:
        """Return about ``limit`` bytes of whole lines; empty at the end."""
        while not self._ended and (len(self._pending) < limit or b"\n" not in self._pending):
            self._fill()
        end = len(self._pending) if self._ended else self._pending.rindex(b"\n") + 1
        lines, self._pending = self._pending[:end], self._pending[end:]
        self.quotes += lines.count(b'"')
        return lines

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` with bytes of whole lines; 0 at the end."""
        if not self._buffered:
            self._buffered = memoryview(self.read_lines())
        count = min(len(buffer), len(self._buffered))
        buffer[:count] = self._buffered[:count]
        self._buffered = self._buffered[count:]
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def _fill(self) -> None:
        try:
            chunk = self._source.read1(CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            self._cut(str(error))
            return
        self._pending += chunk
        if not chunk:
            self._ended = True
            self._pending += b"" if self._pending.endswith(b"\n") or not self._pending else b"\n"

    def _cut(self, reason: str) -> None:
        self._ended = True
        self.broken = reason
        end = self._pending.rfind(b"\n") + 1
        self._pending, self.lost = self._pending[:end], self._pending[end:]


class _ZstandardStream:
    """Zstandard frames, at most ``STEP`` bytes a read, so that little is lost where one breaks."""

    STEP = 1 << 16

    def __init__(self, file: IO[bytes]) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")

    def read1(self, _: int) -> bytes:
        """Return the next bytes; raises OSError where the frame is damaged or ends early."""
        data: bytes = self._stream.read(self.STEP)
        return data


def _decompressed(file: IO[bytes], suffix: str) -> gzip.GzipFile | _ZstandardStream | io.BufferedReader:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if suffix == ".zst":
        return _ZstandardStream(file)
    assert isinstance(file, io.BufferedReader)
    return file
