"""Records of a segment of slates: a length, a checksum, and bytes."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bowerbird.errors import CorruptionError
from bowerbird.serving.slate import Buffer

_FRAME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record's bytes stand in its file, and their CRC-32."""

    position: int
    length: int
    checksum: int


def framed(*payload: Buffer) -> list[Buffer]:
    """Return a record of what stands in some buffers, as buffers to be written one after another."""
    checksum = 0
    for buffer in payload:
        checksum = zlib.crc32(buffer, checksum)
    return [sum(map(len, payload)).to_bytes(4, "little") + checksum.to_bytes(4, "little"), *payload]


def records_in(stream: BinaryIO) -> Iterator[Record]:
    """Yield a file's records, of which only the frames are read; a torn last one is left out."""
    size = os.fstat(stream.fileno()).st_size
    end = 0
    while True:
        stream.seek(end)
        frame = stream.read(_FRAME_BYTES)
        length = int.from_bytes(frame[:4], "little")
        record = Record(end + _FRAME_BYTES, length, int.from_bytes(frame[4:], "little"))
        end = record.position + length
        if len(frame) < _FRAME_BYTES or length == 0 or end > size:
            return
        if end == size and zlib.crc32(stream.read(length)) != record.checksum:
            return
        yield record


def read_record(stream: BinaryIO, record: Record, file: Path) -> bytes:
    """Return a record's bytes; raises CorruptionError where they are not what was written."""
    stream.seek(record.position)
    data = stream.read(record.length)
    if zlib.crc32(data) != record.checksum:
        raise CorruptionError(
            f"{file} is damaged at byte {record.position - _FRAME_BYTES:,}.",
            "Restore the file, or delete it: its slates are lost.",
        )
    return data
