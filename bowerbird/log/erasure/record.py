"""The record of erasures: who was forgotten, as salted hashes, and up to when, so that raw files bring nobody back."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from bowerbird.durable import make_folder, storage_errors
from bowerbird.errors import CorruptionError
from bowerbird.log.rows.faults import Mask
from bowerbird.log.schema import TIME

ERASURES_FILE = "erasures.jsonl"


class Erasure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: the SHA-256 of salt and user id, the time (microseconds) up to which records are erased, what went."""

    user: str
    salt: str
    until: int
    at: str
    status: Literal["begun", "done"] = "begun"
    removed: dict[str, int] = {}


class Erasures:
    """The erasures of a data folder as they were at construction; raises CorruptionError for a damaged line."""

    def __init__(self, data_folder: Path) -> None:
        self._file = data_folder / ERASURES_FILE
        self._until: dict[str, dict[str, int]] = {}
        self._latest = -1
        for erasure in self._read():
            self._note(erasure)

    def __len__(self) -> int:
        return sum(map(len, self._until.values()))

    def begin(self, identifier: object, now: int) -> Erasure:
        """Note durably that an erasure begins; all of a folder's have one salt. Raises StorageError."""
        salt = next(iter(self._until), None) or secrets.token_hex(16)
        return self._append(Erasure(_hash(salt, identifier), salt, now, _moment()))

    def finish(self, erasure: Erasure, removed: Mapping[str, int]) -> None:
        """Note durably that an erasure is done, and what was removed; raises StorageError."""
        self._append(msgspec.structs.replace(erasure, status="done", at=_moment(), removed=dict(removed)))

    def covers(self, identifier: object, time: int) -> bool:
        """Return whether a record of a user and a time (microseconds) was to be forgotten."""
        return time <= self._latest and time <= self._erased_until(identifier)

    def of_table(self, table: pa.Table, column: str) -> Mask:
        """Return bool [n]: which records were to be forgotten, by their user in ``column`` and their time."""
        users = table.column(column).combine_chunks().dictionary_encode()
        until = np.array([self._erased_until(each) for each in users.dictionary.to_pylist()], dtype=np.int64)
        covered: Mask = table.column(TIME).to_numpy() <= until[users.indices.to_numpy()]
        return covered

    def _erased_until(self, identifier: object) -> int:
        return max((known.get(_hash(salt, identifier), -1) for salt, known in self._until.items()), default=-1)

    def _note(self, erasure: Erasure) -> None:
        known = self._until.setdefault(erasure.salt, {})
        known[erasure.user] = max(erasure.until, known.get(erasure.user, -1))
        self._latest = max(self._latest, erasure.until)

    def _append(self, erasure: Erasure) -> Erasure:
        make_folder(self._file.parent)
        with storage_errors(self._file), self._file.open("ab") as stream:
            stream.write(msgspec.json.encode(erasure) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._note(erasure)
        return erasure

    def _read(self) -> list[Erasure]:
        if not self._file.is_file():
            return []
        with storage_errors(self._file):
            lines = self._file.read_bytes().splitlines()
        try:
            return [msgspec.json.decode(line, type=Erasure) for line in lines if line.strip()]
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise CorruptionError(
                f"{self._file} is damaged: {error}.",
                "Restore it from a backup: it keeps forgotten users from returning.",
            ) from error


def _hash(salt: str, identifier: object) -> str:
    return hashlib.sha256(f"{salt}:{identifier}".encode()).hexdigest()


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
