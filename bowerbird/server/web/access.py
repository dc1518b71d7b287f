"""API keys: shown once when created, kept as SHA-256 hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import msgspec

from bowerbird.errors import CorruptionError, ForbiddenError, InputError, NotFoundError, UnauthorizedError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_RELOAD_SECONDS = 1.0


class KeyRecord(msgspec.Struct, frozen=True):
    """A key at rest: its name, what it allows, its hash (hexadecimal) and when it was made (seconds)."""

    name: str
    scopes: list[Scope]
    sha256: str
    created: float


class KeyStore:
    """The keys of one server, in a JSON file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._checked = 0.0
        self._stamp: tuple[int, int] | None = None
        self._records: list[KeyRecord] = []

    def records(self) -> list[KeyRecord]:
        """Return the keys in the order in which they were made; a change of the file shows within a second."""
        with self._lock:
            now = time.monotonic()
            if now - self._checked >= _RELOAD_SECONDS:
                self._checked = now
                self._reload()
            return self._records

    def create(self, name: str, scopes: list[Scope]) -> str:
        """Add a key and return it, the only time that it can be seen; InputError when the name is taken."""
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise InputError(f"Scopes {scopes} are not right.", f"Choose among {', '.join(SCOPES)}.")
        with self._lock:
            self._reload()
            if any(record.name == name for record in self._records):
                raise InputError(f"A key named {name!r} exists.", "Revoke it first, or choose another name.")
            key = f"bower_{secrets.token_urlsafe(32)}"
            self._write([*self._records, KeyRecord(name, scopes, _hash(key), time.time())])
        return key

    def revoke(self, name: str) -> None:
        """Remove a key by name; NotFoundError when there is none."""
        with self._lock:
            self._reload()
            kept = [record for record in self._records if record.name != name]
            if len(kept) == len(self._records):
                raise NotFoundError(f"No key is named {name!r}.", "See `bowerbird keys list`.")
            self._write(kept)

    def authorise(self, headers: Mapping[bytes, bytes], scope: Scope) -> None:
        """Check the request's key; UnauthorizedError or ForbiddenError. Without any key, all is allowed."""
        records = self.records()
        if not records:
            return
        presented = _presented_key(headers)
        if presented is None:
            raise UnauthorizedError("The request has no API key.", "Send `Authorization: Bearer KEY`.")
        record = _find(records, _hash(presented))
        if record is None:
            raise UnauthorizedError("The API key is unknown.", "Make one with `bowerbird keys create NAME`.")
        if scope not in record.scopes and "admin" not in record.scopes:
            raise ForbiddenError(
                f"The key {record.name!r} allows {', '.join(record.scopes)}, not {scope}.",
                f"Use a key made with `--scope {scope}`.",
            )

    def _reload(self) -> None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._stamp, self._records = None, []
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            self._records = msgspec.json.decode(self._file.read_bytes(), type=list[KeyRecord])
        except msgspec.DecodeError as error:
            raise CorruptionError(f"{self._file} is not a key file: {error}.", "Restore it or delete it.") from error
        self._stamp = stamp

    def _write(self, records: list[KeyRecord]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(records), indent=2))
        temporary.replace(self._file)
        self._records = records
        self._stamp = None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    value = headers.get(b"authorization", b"")
    if value[:7].lower() == b"bearer ":
        return value[7:].strip().decode("latin-1")
    direct = headers.get(b"x-api-key")
    return direct.decode("latin-1") if direct else None


def _find(records: list[KeyRecord], digest: str) -> KeyRecord | None:
    found = None
    for record in records:  # every record is compared, so that time tells nothing
        if hmac.compare_digest(record.sha256, digest):
            found = record
    return found
