"""One file of the write-ahead log: its bytes, and how far they can be believed.

A header (``_HEADER``), then records: u32 length, u32 CRC-32, u64 LSN, payload (MessagePack). The checksum
covers length, LSN and payload. A *mark* is a record without a payload, whose length is ``_MARK``: its LSN
says that every record below it had been synced when the mark was written. A damaged record below a later
mark was once acknowledged, so it is corruption; one above every mark may be what a crash left of a write.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bowerbird.durable import storage_errors
from bowerbird.errors import CorruptionError

_MAGIC = b"BOWERWAL"
_VERSION = 1
_HEADER = struct.Struct("<8sIQQI")
_RECORD = struct.Struct("<IIQ")
_COVERED = struct.Struct("<IQ")
_MARK = 0x8000_0000
LARGEST_PAYLOAD = 16 << 20
HEADER_BYTES = _HEADER.size
_RESTORE = "Restore the write-ahead log's folder from a backup; what follows the damage cannot be trusted."


@dataclass(frozen=True)
class SegmentHeader:
    """``first_lsn`` of the segment's records, and ``base``, how many were imported before live ones."""

    first_lsn: int
    base: int


def segment_name(first_lsn: int) -> str:
    """Return a segment's file name; names sort by LSN."""
    return f"segment-{first_lsn:020d}.wal"


def segments(folder: Path) -> list[Path]:
    """Return a folder's segments in LSN order."""
    return sorted(folder.glob("segment-*.wal"))


def encode_header(header: SegmentHeader) -> bytes:
    """Return a header's bytes."""
    fields = _HEADER.pack(_MAGIC, _VERSION, header.first_lsn, header.base, 0)[:-4]
    return fields + struct.pack("<I", zlib.crc32(fields))


def encode_record(lsn: int, payload: bytes) -> bytes:
    """Return a record's bytes."""
    length = len(payload)
    checksum = zlib.crc32(payload, zlib.crc32(_COVERED.pack(length, lsn)))
    return _RECORD.pack(length, checksum, lsn) + payload


def encode_mark(synced: int) -> bytes:
    """Return the bytes of a mark: records below LSN ``synced`` are durable."""
    return _RECORD.pack(_MARK, zlib.crc32(_COVERED.pack(_MARK, synced)), synced)


class Segment:
    """A segment's bytes at the time of construction.

    Raises CorruptionError when the header is damaged. After ``records`` has been exhausted, ``next_lsn``,
    ``end`` (offset) and ``fault`` (None when the file ends with a whole record) say where it stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            self._data = path.read_bytes()
        self.header = self._read_header()
        self.next_lsn = self.header.first_lsn
        self.end = HEADER_BYTES
        self.fault: str | None = None

    def _read_header(self) -> SegmentHeader:
        if len(self._data) >= HEADER_BYTES:
            magic, version, first_lsn, base, checksum = _HEADER.unpack_from(self._data)
            covered = self._data[: HEADER_BYTES - 4]
            if magic == _MAGIC and version == _VERSION and zlib.crc32(covered) == checksum:
                return SegmentHeader(first_lsn, base)
        raise CorruptionError(f"{self.path} at offset 0: the header is damaged.", _RESTORE)

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Yield (LSN, payload) up to the end or the first fault."""
        data, size = self._data, len(self._data)
        while self.end < size:
            self.fault = self._fault_at(self.end, size)
            if self.fault is not None:
                return
            length, _, lsn = _RECORD.unpack_from(data, self.end)
            start = self.end + _RECORD.size
            if length == _MARK:
                self.end = start
                continue
            self.end = start + length
            self.next_lsn = lsn + 1
            yield lsn, data[start : self.end]

    def rewritten(self, change: Callable[[bytes], bytes | None]) -> bytes | None:
        """Return the segment's bytes with other payloads under the same LSNs and marks; None where nothing changes.

        ``change`` returns a record's new payload, or None to keep it. Raises CorruptionError at a fault.
        """
        parts, start, changed = [self._data[:HEADER_BYTES]], HEADER_BYTES, False
        for lsn, payload in self.records():
            new = change(payload)
            before = self.end - _RECORD.size - len(payload)
            parts.append(self._data[start:before])  # marks
            parts.append(self._data[before : self.end] if new is None else encode_record(lsn, new))
            start, changed = self.end, changed or new is not None
        if self.fault is not None:
            raise self.corruption()
        return b"".join([*parts, self._data[start:]]) if changed else None

    def _fault_at(self, offset: int, size: int) -> str | None:
        if offset + _RECORD.size > size:
            return "the record's head is cut off"
        length, checksum, lsn = _RECORD.unpack_from(self._data, offset)
        if length == _MARK:
            return None if checksum == zlib.crc32(_COVERED.pack(_MARK, lsn)) else "the mark's checksum is wrong"
        if length > LARGEST_PAYLOAD:
            return f"the record's length {length} is impossible"
        start = offset + _RECORD.size
        if start + length > size:
            return "the record is cut off"
        if zlib.crc32(self._data[start : start + length], zlib.crc32(_COVERED.pack(length, lsn))) != checksum:
            return "the record's checksum is wrong"
        return None if lsn == self.next_lsn else f"the record has LSN {lsn} where {self.next_lsn} is due"

    def fault_was_acknowledged(self) -> bool:
        """Return whether a later mark says that the record at the fault had been synced."""
        start = self.end
        pattern = struct.pack("<I", _MARK)
        while (at := self._data.find(pattern, start)) >= 0:
            start = at + 1
            if at + _RECORD.size > len(self._data):
                return False
            length, checksum, lsn = _RECORD.unpack_from(self._data, at)
            if checksum == zlib.crc32(_COVERED.pack(length, lsn)) and lsn > self.next_lsn:
                return True
        return False

    def size(self) -> int:
        """Return the file's length in bytes."""
        return len(self._data)

    def corruption(self) -> CorruptionError:
        """Return the error that names the file and the offset of the fault."""
        return CorruptionError(f"{self.path} at offset {self.end}: {self.fault}.", _RESTORE)
