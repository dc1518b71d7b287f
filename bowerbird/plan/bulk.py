"""A replay of many records at once: faster than batch after batch, for the memory of what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bowerbird import _native
from bowerbird.errors import StorageError
from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock

if TYPE_CHECKING:
    from bowerbird.plan.read import PlanReader


class BulkReplay:
    """Answers the reads of a long piece of the log; the answers are the same bits as ``replay``'s.

    Batches are added in LSN order, then run, then the reads' features are taken. Instead of one record after another,
    one key after another takes its turn, so that memory is met in order. Nothing else may use the state until it has
    run; with ``keep`` the state then stands where the records end, without it it is used up, which saves the time and
    the memory of state that nobody wants.
    """

    def __init__(self, reader: PlanReader, keep: bool = True) -> None:
        self._reader = reader
        self._native = _native.BulkReplay(reader.program, keep)
        self._lsn = reader.states[0].lsn
        self._left = 0

    @property
    def lsn(self) -> int:
        """The position that the records added so far come to."""
        return self._lsn

    @property
    def memory(self) -> int:
        """Bytes that what was added takes, and the answers will."""
        size: int = self._native.bytes
        return size

    def add(self, records: RecordBatch, reads: ReadBatch) -> None:
        """Add records and the reads between them; positions count from the engine's first record."""
        vectors = [(slot, rows, values) for slot, (rows, values) in records.vectors.items()]
        self._native.add(
            records.types, records.times, records.slots, vectors, reads.positions, reads.times, reads.slots
        )
        self._lsn += len(records)
        self._left += len(reads)

    def run(self) -> None:
        """Bring every key up to the end of the records; raises StorageError where state outgrows its budget."""
        running(self._native.run)

    def blocks(self, rows: int) -> Iterator[tuple[int, FeatureBlock]]:
        """Yield, once, the reads' features in their order: at most so many ``rows`` at a time, and how many."""
        while self._left > 0:
            count = min(rows, self._left)
            yield count, self._reader.block(self._native.next(count), self._lsn)
            self._left -= count


def running(replay: Any, *arguments: Any) -> Any:
    """Return what a native replay returns; a full state is a StorageError."""
    try:
        return replay(*arguments)
    except RuntimeError as error:
        raise StorageError(f"{error}.", "Give feature state a larger budget, or let it expire keys.") from error


__all__ = ["BulkReplay", "running"]
