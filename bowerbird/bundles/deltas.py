"""Embedding deltas: what changed of a version's tables since it was published, as an ordered log beside its bundle.

``bundles/<model>/<version>.deltas/<sequence>.delta`` holds a SHA-256 and, as msgpack, what the delta belongs to and the
arrays. A delta names its bundle and the delta before it, so that one of another version or history is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from bowerbird.bundles.arrays import AnyArray, pack_arrays, unpack_arrays
from bowerbird.bundles.bundle import Bundle
from bowerbird.durable import make_folder, storage_errors, write_atomically
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.embedding.served_table import TableChange
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import MISSING_KEY

_FORMAT = 1
_HASH_BYTES = 32
_SUFFIX = ".delta"
_NOTHING = np.zeros(0, np.uint64)


class DeltaHeader(msgspec.Struct, frozen=True):
    """What a delta belongs to: the bundle by its digest, the one before it by its SHA-256 (empty for the first).

    ``created`` is in microseconds since 1970; ``keys`` and ``removed`` count by vocabulary.
    """

    bundle: str
    sequence: int
    previous: str
    created: int
    keys: dict[str, int]
    removed: dict[str, int]
    format: int = _FORMAT


class _DeltaFile(msgspec.Struct, frozen=True):
    header: DeltaHeader
    arrays: bytes


@dataclass(frozen=True)
class Delta:
    """One delta: its header, its changes by vocabulary, and the SHA-256 that the next one names."""

    header: DeltaHeader
    changes: dict[str, TableChange]
    sha256: str

    @property
    def sequence(self) -> int:
        """Its number; the first is 1."""
        return self.header.sequence


class DeltaLog:
    """The deltas of one version."""

    def __init__(self, bundle_folder: Path, digest: str) -> None:
        self.folder = bundle_folder.with_name(f"{bundle_folder.name}.deltas")
        self._digest = digest

    def file(self, sequence: int) -> Path:
        """Return where a delta lies or will lie."""
        return self.folder / f"{sequence:010d}{_SUFFIX}"

    def sequences(self) -> list[int]:
        """Return the numbers of the deltas that are there, ascending."""
        return sorted(int(file.stem) for file in self.folder.glob(f"*{_SUFFIX}") if file.stem.isdigit())

    def read(self, sequence: int) -> Delta:
        """Read a delta; raises NotFoundError, CorruptionError."""
        file = self.file(sequence)
        if not file.is_file():
            raise NotFoundError(f"{file} is not there.", "Restore it, or publish the version again.")
        with storage_errors(file):
            data = file.read_bytes()
        delta = _decoded(data, file)
        if delta.sequence != sequence:
            raise CorruptionError(f"{file} holds delta {delta.sequence}.", "Name files as they were published.")
        return delta

    def publish(self, changes: Mapping[str, TableChange]) -> Delta:
        """Write the next delta, which appears whole or not at all; one publisher waits for another.

        Raises StorageError, CorruptionError where the one before cannot be read.
        """
        make_folder(self.folder)
        with _alone(self.folder):
            last = max(self.sequences(), default=0)
            header = DeltaHeader(
                bundle=self._digest,
                sequence=last + 1,
                previous=self.read(last).sha256 if last else "",
                created=time.time_ns() // 1000,
                keys={name: len(change.keys) for name, change in changes.items()},
                removed={name: len(change.removed) for name, change in changes.items()},
            )
            payload = msgspec.msgpack.encode(_DeltaFile(header, pack_arrays(_arrays(changes))))
            hashed = hashlib.sha256(payload)
            write_atomically(self.file(last + 1), hashed.digest() + payload)
        return Delta(header, dict(changes), hashed.hexdigest())

    def apply(self, tables: ServedCollection, delta: Delta) -> ServedCollection:
        """Return tables with the next delta; one that they hold already changes nothing.

        Raises InputError, and says why, for a delta of another bundle or history and for one that comes too early.
        """
        header = delta.header
        if header.bundle != self._digest:
            raise InputError(
                f"Delta {header.sequence} belongs to the bundle {header.bundle[:12]}, not to {self._digest[:12]}.",
                "Publish it for this version.",
            )
        if header.sequence <= tables.sequence:
            return tables
        if header.sequence > tables.sequence + 1:
            raise InputError(
                f"Delta {header.sequence} comes before delta {tables.sequence + 1}.",
                "It waits: publish the ones between, in their order.",
            )
        if header.previous != tables.history:
            raise InputError(
                f"Delta {header.sequence} goes on from another delta {tables.sequence} than the one that is served.",
                "Restore the deltas as they were published, or publish the version again.",
            )
        _checked(tables, delta.changes)
        return tables.with_changes(delta.changes, header.sequence, delta.sha256)


def publish_delta(bundle: Bundle, changes: Mapping[str, TableChange]) -> Delta:
    """Publish changes by vocabulary as the next delta of a version; servers apply it within a second.

    Raises InputError for a table or a width that the version does not have and for rows that are not finite,
    StorageError.
    """
    tables = bundle.load_collection()
    if not isinstance(tables, ServedCollection):
        raise InputError(
            f"{bundle.manifest.name} {bundle.manifest.version} has its tables in a form that takes no deltas.",
            "Publish the version again.",
        )
    _checked(tables, changes)
    return DeltaLog(bundle.folder, bundle.digest).publish(changes)


def tables_at(bundle: Bundle, tables: ServedCollection, sequence: int) -> ServedCollection:
    """Return a version's tables as of a delta, from ones as of an earlier one.

    Raises NotFoundError or CorruptionError where a delta between them is gone or damaged.
    """
    log = DeltaLog(bundle.folder, bundle.digest)
    for number in range(tables.sequence + 1, sequence + 1):
        tables = log.apply(tables, log.read(number))
    return tables


def changes_between(served: ServedCollection, trained: Mapping[str, AnyArray]) -> dict[str, TableChange]:
    """Return what makes served tables those of exported arrays (``EmbeddingCollection.export_arrays``)."""
    changes = {}
    for name, table in served.tables.items():
        change = table.change_to(trained[f"{name}.keys"].astype(np.uint64), trained[f"{name}.rows"].astype(np.float32))
        if len(change) or change.reserved is not None:
            changes[name] = change
    return changes


def _checked(tables: ServedCollection, changes: Mapping[str, TableChange]) -> None:
    """Raise InputError for changes that tables cannot have."""
    for name, change in changes.items():
        if name not in tables.tables:
            raise InputError(f"There is no table {name!r}.", nearest(name, list(tables.tables)))
        width = tables.tables[name].dimension
        if change.vectors.shape != (len(change.keys), width):
            raise InputError(
                f"{len(change.keys)} keys of {name!r} have rows of shape {change.vectors.shape}.",
                f"Give float32 [{len(change.keys)}, {width}].",
            )
        rows = change.vectors if change.reserved is None else np.concatenate([change.vectors, change.reserved])
        if not np.isfinite(rows).all():
            raise InputError(f"A changed row of {name!r} has a number that is not finite.", "Train again: it diverged.")
        if (change.keys == MISSING_KEY).any():
            raise InputError(f"A changed row of {name!r} is of the missing key.", "Change it as a reserved row.")


def _arrays(changes: Mapping[str, TableChange]) -> dict[str, AnyArray]:
    arrays: dict[str, AnyArray] = {}
    for name, change in changes.items():
        arrays |= {f"{name}.keys": change.keys, f"{name}.rows": change.vectors, f"{name}.removed": change.removed}
        if change.reserved is not None:
            arrays[f"{name}.reserved"] = change.reserved
    return arrays


def _decoded(data: bytes, file: Path) -> Delta:
    payload = memoryview(data)[_HASH_BYTES:]
    hashed = hashlib.sha256(payload)
    if hashed.digest() != data[:_HASH_BYTES]:
        raise CorruptionError(f"{file} is damaged or not whole.", "Copy it again, or publish the version again.")
    content = msgspec.msgpack.decode(payload, type=_DeltaFile)
    if content.header.format != _FORMAT:
        raise CorruptionError(f"{file} has format {content.header.format}, not {_FORMAT}.", "Publish it again.")
    arrays = unpack_arrays(content.arrays)
    changes = {
        name: TableChange(
            arrays[f"{name}.keys"].astype(np.uint64),
            arrays[f"{name}.rows"].astype(np.float32),
            arrays.get(f"{name}.removed", _NOTHING).astype(np.uint64),
            arrays[f"{name}.reserved"].astype(np.float32) if f"{name}.reserved" in arrays else None,
        )
        for name in content.header.keys
    }
    return Delta(content.header, changes, hashed.hexdigest())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock that other publishers wait for; the system frees it when a process ends."""
    with storage_errors(folder), (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
