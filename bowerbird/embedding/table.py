"""An embedding table in native memory: keys to rows, rows to vectors, gradients to steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.errors import BowerbirdError, CorruptionError, InputError, NotFoundError, StorageError
from bowerbird.kernels.table_config import EVICTED, OPTIMISERS, PRECISIONS, Adam, TableConfig

Keys: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int64]
Vectors: TypeAlias = npt.NDArray[np.float32]
Mode: TypeAlias = Literal["sum", "mean"]
_Native = TypeVar("_Native", _native.Table, _native.MappedTable)

_Number = TypeVar("_Number", bound=np.generic)

_CONFIGURED_RATE = -1.0
_OWN_CLOCK = -1


@dataclass(frozen=True)
class TableStats:
    """What a table holds and what became of its keys, counted since it was first made."""

    keys: int
    rows: int
    """Rows ever needed at once, the two reserved ones included."""
    free_rows: int
    index_bytes: int
    row_bytes: int
    filter_bytes: int
    admitted: int
    refused: int
    """Sights of keys that got no row."""
    expired: int
    """Keys removed by ``expire``."""
    evicted: int
    """Keys removed because memory was at its limit."""
    steps: int
    version: int
    load: float
    """The share of the index's places that hold a key."""


class TableReader(Generic[_Native]):
    """What a table and a mapped snapshot of one have in common: looking up."""

    _native: _Native

    @property
    def rows(self) -> int:
        """How many rows there are, reserved and free ones included: all rows are below this."""
        return self._native.rows

    @property
    def version(self) -> int:
        """How many snapshots and deltas there were; the last one's version."""
        return self._native.version

    def find(self, keys: Keys) -> Rows:
        """Return each key's row, int64 in the keys' shape: 0 for the missing key, 1 for keys without a row."""
        return self._native.find(_flat(keys)).reshape(keys.shape)

    def take(self, rows: Rows, out: Vectors | None = None) -> Vectors:
        """Return the vectors of rows [n], float32 [n, dimension], in ``out`` where it is given."""
        with refusals():
            return self._native.take(_whole(rows), out)

    def pool(
        self, rows: Rows, offsets: Rows, mode: Mode = "sum", weights: Vectors | None = None, out: Vectors | None = None
    ) -> Vectors:
        """Return the sum or mean of each bag's vectors, float32 [m, dimension]; an empty bag gives zeros.

        Bag i is ``rows[offsets[i]:offsets[i + 1]]``, ``offsets`` int64 [m + 1] from 0 to ``len(rows)``. ``weights``
        float32 [n] multiply the vectors first; a mean divides by how many vectors there are.
        """
        with refusals():
            return self._native.pool(_whole(rows), _whole(offsets), _is_mean(mode), _optional(weights), out)


class Table(TableReader[_native.Table]):
    """Vectors for 64-bit keys, with optimiser state, admission and expiry.

    Row 0 belongs to key 0 (missing), row 1 to all keys without a row of their own, real rows begin at 2; all are
    trained. Results do not depend on ``threads`` or on ``instructions``. Any thread may call: calls that only read
    run side by side, one that changes the table has it to itself. A key keeps its row until it goes: by ``expire``,
    ``remove``, ``restore``, a delta, or, with ``max_bytes``, a later ``admit``. Native memory is used without the GIL.
    """

    def __init__(self, config: TableConfig | None = None, *, threads: int = 1, instructions: str = "") -> None:
        """Make an empty table; ``instructions`` ("plain", "avx2", "avx512") is for tests, "" means the best."""
        self.config = config or TableConfig()
        with refusals():
            self._native = _native.Table(_options(self.config, threads, instructions))

    def __len__(self) -> int:
        """Return how many keys have a row."""
        return int(self._native.statistics()["keys"])

    def admit(self, keys: Keys, time: float | None = None, counts: npt.NDArray[np.integer[Any]] | None = None) -> Rows:
        """Return each key's row as ``find``, after counting its use and giving it a row where that is due.

        ``time`` is in seconds, 0 to 2^32 - 1, fractions dropped; without it the table counts calls instead.
        ``counts`` says how often each key was seen (1 without). New keys get rows in the order of ``keys``.
        """
        clock = _OWN_CLOCK if time is None else _seconds(time)
        seen = None if counts is None else _counts(counts, keys)
        with refusals():
            return self._native.admit(_flat(keys), clock, seen).reshape(keys.shape)

    def update(self, rows: Rows, gradients: Vectors, learning_rate: float | None = None) -> None:
        """Take one optimiser step with gradients float32 [n, dimension] of rows [n].

        A row that comes several times has its gradients summed in their order, and steps once.
        """
        with refusals():
            self._native.update(_whole(rows), _whole(gradients), _rate(learning_rate))

    def update_pooled(
        self,
        rows: Rows,
        offsets: Rows,
        gradients: Vectors,
        mode: Mode = "sum",
        weights: Vectors | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Take one optimiser step with gradients float32 [m, dimension] of what ``pool`` returned."""
        with refusals():
            self._native.update_pooled(
                _whole(rows),
                _whole(offsets),
                _whole(gradients),
                _is_mean(mode),
                _optional(weights),
                _rate(learning_rate),
            )

    def put(self, keys: Keys, vectors: Vectors) -> None:
        """Give keys [n] these vectors float32 [n, dimension] and fresh optimiser state, whatever admission says."""
        with refusals():
            self._native.put(_flat(keys), _whole(vectors))

    def set_rows(self, rows: Rows, vectors: Vectors) -> None:
        """Set the vectors of rows that there are; their optimiser state stays."""
        with refusals():
            self._native.set_rows(_whole(rows), _whole(vectors))

    def remove(self, keys: Keys) -> int:
        """Take away the rows of keys; return how many had one."""
        return self._native.remove(_flat(keys))

    def expire(self, now: float) -> int:
        """Take away the rows of keys that are due by ``config.expiry``; return how many. ``now`` is as ``time``."""
        return self._native.expire(_seconds(now))

    def keys(self) -> tuple[Keys, Rows]:
        """Return all keys that have a row, uint64 [n], and their rows, int64 [n] ascending."""
        found: tuple[Keys, Rows] = self._native.keys_and_rows()
        return found

    def state(self, rows: Rows) -> Vectors:
        """Return the optimiser's numbers of rows [n], float32 [n, width]; two arrays' follow each other."""
        with refusals():
            return self._native.take_state(_whole(rows))

    def stats(self) -> TableStats:
        """Return what the table holds."""
        return TableStats(**self._native.statistics())

    def snapshot(self, path: Path) -> None:
        """Write the whole table to a file, which then appears whole or not at all, and begin a new version.

        Raises StorageError when the file system refuses.
        """
        with refusals():
            self._native.snapshot(str(path))

    def delta(self, path: Path, since: int) -> None:
        """Write what changed after version ``since`` to a file, and begin a new version.

        Vectors and states of keys that were new or stepped, and the keys that went; not the use of keys, nor the
        admission filter. Raises InputError when no delta can start there.
        """
        with refusals():
            self._native.delta(str(path), since)

    def apply_delta(self, path: Path) -> None:
        """Bring the table from the delta's base version to its version.

        Raises InputError unless the table is at exactly that version and unchanged since; CorruptionError when the
        file is damaged. The table is then as it was.
        """
        with refusals():
            self._native.apply_delta(str(path))

    @staticmethod
    def restore(path: Path, *, config: TableConfig | None = None, threads: int = 1, instructions: str = "") -> Table:
        """Return the table that ``snapshot`` wrote; raises CorruptionError when the file is damaged.

        ``config`` may change rates, admission and expiry of later calls, but not the rows' layout.
        """
        with refusals():
            header = _native.table_file_header(str(path))
        table = Table(config or TableConfig.from_json(header["config"]), threads=threads, instructions=instructions)
        with refusals():
            table._native.restore(str(path))
        return table


class MappedTable(TableReader[_native.MappedTable]):
    """A snapshot's vectors read where they lie in the file: nothing is copied, processes share the pages.

    ``verify`` reads the file once and compares its checksums. Any thread may read. The file may be replaced (a
    snapshot is renamed into place), but not written into.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Map a snapshot; raises CorruptionError when it is damaged, InputError when it is a delta."""
        with refusals():
            self._native = _native.MappedTable(str(path), verify)
        self.config = TableConfig.from_json(self._native.config)

    def __len__(self) -> int:
        """Return how many keys have a row."""
        return len(self._native)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the native table throws into errors that say what to do."""
    try:
        yield
    except BowerbirdError:
        raise
    except _native.DamagedTableFile as error:
        raise CorruptionError(f"{error}.", "Restore another snapshot, or write it again.") from error
    except _native.WrongTableOrder as error:
        raise InputError(f"{error}.", "Versions are applied one after the other.") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{error}.", "Check the path.") from error
    except OSError as error:
        raise StorageError(f"{error}.", "Check free space and permissions, then run again.") from error
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"A table refuses: {error}.", "Check shapes, dtypes and row numbers.") from error


def _options(config: TableConfig, threads: int, instructions: str) -> dict[str, Any]:
    optimiser, admission, expiry = config.optimiser, config.admission, config.expiry
    numbers = {
        name: getattr(optimiser, name, 0.0)
        for name in ("learning_rate", "l2", "clip", "beta1", "beta2", "epsilon", "initial", "beta", "l1")
    }
    exact = isinstance(optimiser, Adam) and optimiser.exact
    return {
        "dimension": config.dimension,
        "precision": PRECISIONS.index(config.precision),
        "stochastic": config.rounding == "stochastic",
        "initial_scale": config.initial_scale,
        "seed": config.seed,
        "optimiser": {**numbers, "kind": OPTIMISERS.index(type(optimiser)), "exact": exact},
        "minimum_count": admission.minimum_count,
        "probability": admission.probability,
        "filter_keys": admission.filter_keys,
        "filter_error": admission.filter_error,
        "max_age": math.ceil(expiry.max_age),
        "rare_age": math.ceil(expiry.rare_age),
        "rare_uses": expiry.rare_uses,
        "max_bytes": expiry.max_bytes,
        "evicted": EVICTED.index(expiry.evicted),
        "threads": threads,
        "instructions": instructions,
        "config": config.to_json(),
    }


def _flat(keys: Keys) -> Keys:
    if keys.dtype != np.uint64:
        raise InputError(f"Keys are {keys.dtype}.", "Give uint64 keys: bowerbird.kernels.keys makes them.")
    return np.ascontiguousarray(keys).reshape(-1)


def _whole(array: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    return np.ascontiguousarray(array)


def _optional(array: Vectors | None) -> Vectors | None:
    return None if array is None else _whole(array)


def _seconds(time: float) -> int:
    if not 0 <= time < 2**32:
        raise InputError(f"A table cannot note the time {time!r}.", "Use seconds, 0 to 2^32 - 1.")
    return int(time)


def _counts(counts: npt.NDArray[np.integer[Any]], keys: Keys) -> npt.NDArray[np.uint32]:
    if counts.shape != keys.shape or (counts.size and counts.min() < 0):
        raise InputError(
            f"counts of shape {counts.shape} do not go with keys of shape {keys.shape}.",
            "Give one of 0 or more for each key.",
        )
    return np.ascontiguousarray(np.minimum(counts, 2**32 - 1), dtype=np.uint32).reshape(-1)


def _rate(learning_rate: float | None) -> float:
    if learning_rate is None:
        return _CONFIGURED_RATE
    if not learning_rate > 0:
        raise InputError(f"A table cannot step with the learning rate {learning_rate!r}.", "Use more than 0.")
    return learning_rate


def _is_mean(mode: Mode) -> bool:
    if mode not in ("sum", "mean"):
        raise InputError(f"A table cannot pool by {mode!r}.", "Use sum or mean.")
    return mode == "mean"
