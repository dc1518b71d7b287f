"""Rejected rows with reason, file and line: one JSON-lines file per ingested file, replaced with it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from bowerbird.durable import TEMPORARY_PREFIX, make_folder, storage_errors, sync_folder, write_atomically

DAMAGED = "damaged dead letter"
"""Reason given to a stored line that a crash cut off."""

_ENDING = ".jsonl"


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rejected row: ``row`` holds the columns that the source reads, ``text`` a line that is no row."""

    reason: str
    detail: str
    source: str
    file: str
    line: int
    row: dict[str, Any] | None = None
    text: str = ""


class DeadLetterFile:
    """The dead letters of one file of one source, while it is being ingested.

    Nothing counts until ``commit``, which replaces those of an earlier ingest of the same file.
    """

    def __init__(self, folder: Path, source: str, file: str) -> None:
        self._source = source
        self._file = file
        self._path = folder / source / (hashlib.sha256(file.encode()).hexdigest()[:16] + _ENDING)
        self._temporary = self._path.with_name(TEMPORARY_PREFIX + self._path.name)
        self._output: IO[bytes] | None = None

    def add(self, reason: str, detail: str, line: int, row: dict[str, Any] | None = None, text: str = "") -> None:
        """Write one dead letter; raises StorageError."""
        letter = DeadLetter(reason, detail, self._source, self._file, line, row, text)
        with storage_errors(self._path):
            if self._output is None:
                make_folder(self._path.parent)
                self._output = self._temporary.open("wb")
            self._output.write(msgspec.json.encode(letter, enc_hook=str) + b"\n")

    def finish(self) -> None:
        """Make what was added durable, without it counting yet; raises StorageError."""
        if self._output is not None:
            with storage_errors(self._path):
                self._output.flush()
                os.fsync(self._output.fileno())
                self._output.close()

    def commit(self) -> None:
        """Make these the file's dead letters; where there is none, forget earlier ones."""
        with storage_errors(self._path):
            if self._output is None:
                self._path.unlink(missing_ok=True)
                return
            self._temporary.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Forget what was added and not committed."""
        if self._output is not None:
            with suppress(OSError):  # closing writes what is buffered, which a full disk refuses
                self._output.close()
            self._temporary.unlink(missing_ok=True)


def read_dead_letters(folder: Path, source: str | None = None, reason: str | None = None) -> Iterator[DeadLetter]:
    """Yield the stored dead letters by source, file and line, of one source or reason where given."""
    letters = (letter for path in sorted(folder.glob(f"*/*{_ENDING}")) for letter in _read(path))
    for letter in letters:
        if source in (None, letter.source) and reason in (None, letter.reason):
            yield letter


def count_dead_letters(folder: Path) -> Counter[tuple[str, str]]:
    """Return how many dead letters there are by (source, reason)."""
    return Counter((letter.source, letter.reason) for letter in read_dead_letters(folder))


def remove_dead_letters(folder: Path, unwanted: Callable[[DeadLetter], bool]) -> int:
    """Delete the dead letters for which ``unwanted`` holds, a file at a time, and return how many went."""
    removed = 0
    for path in sorted(folder.glob(f"*/*{_ENDING}")):
        letters = list(_read(path))
        kept = [letter for letter in letters if not unwanted(letter)]
        if not kept:
            path.unlink()
        elif len(kept) < len(letters):
            write_atomically(path, b"".join(msgspec.json.encode(letter) + b"\n" for letter in kept))
        removed += len(letters) - len(kept)
    return removed


def _read(path: Path) -> Iterator[DeadLetter]:
    if path.name.startswith(TEMPORARY_PREFIX):
        return
    with storage_errors(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield msgspec.json.decode(line, type=DeadLetter)
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                text = line.decode("utf-8", "replace")
                yield DeadLetter(DAMAGED, str(error), path.parent.name, path.name, number, text=text)
