"""Slates on disk, found without being read: what looks at many of them holds one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bowerbird.serving.slate import Slate, SlateReference, decode_slate, read_slate_key
from bowerbird.serving.slate_records import Record, read_record, records_in
from bowerbird.serving.slate_segments import open_segments


@dataclass(frozen=True, slots=True)
class LoggedSlate:
    """A slate in a segment, with what slates are found, chosen and ordered by."""

    file: Path
    record: Record
    slate_id: str
    lsn: int
    time: int
    model: str
    version: int

    def load(self) -> Slate | None:
        """Return the slate, or None where its segment has been removed; raises CorruptionError where it is damaged."""
        try:
            with self.file.open("rb") as stream:
                return decode_slate(read_record(stream, self.record, self.file))
        except FileNotFoundError:
            return None


def logged_slates(folder: Path) -> Iterator[LoggedSlate]:
    """Yield where the slates of a folder stand, oldest segment first, reading little but what they are found by.

    A torn last record of a segment is skipped, and so is a segment that is removed meanwhile.
    """
    for file, stream in open_segments(folder):
        for record in records_in(stream):
            key = read_slate_key(stream, record.position, file)
            yield LoggedSlate(file, record, key.slate_id, key.lsn, key.time, key.model, key.version)


def loaded(slates: Iterable[SlateReference]) -> Iterator[Slate]:
    """Yield the slates themselves, without those that have been removed."""
    for each in slates:
        slate = each.load()
        if slate is not None:
            yield slate
