"""Which rows of sample files stand together in memory, and in which order they leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.training.batches.dataset import Piece
from bowerbird.training.batches.encoded_size import EncodedSize, bytes_text

Indices = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fill:
    """A piece's rows ``keep`` (all for None) that go to ``places`` of a window, both int64."""

    piece: Piece
    places: Indices
    keep: Indices | None = None


class Windows(Protocol):
    """The windows of one epoch, in order; each is read on its own, so that an epoch can begin at any."""

    rows: list[int]
    """Rows of each window."""

    def pieces(self, window: int) -> list[Piece]:
        """Return the pieces that are read for a window."""

    def fills(self, window: int) -> Iterator[Fill]:
        """Yield what fills a window; the places of all are each row of it once."""


class ShuffledWindows:
    """Windows of pieces drawn at random from the whole range, all rows of a window shuffled together.

    With K pieces in a window and between-piece variance v of some quantity, the mean of that quantity over a window
    has the variance of v / K · (N - K) / (N - 1) around the mean of all N pieces; within a window batches are those
    of a full shuffle.
    """

    def __init__(self, pieces: Sequence[Piece], size: EncodedSize, window_bytes: int, seed: int, epoch: int) -> None:
        random = np.random.default_rng([seed, epoch])
        drawn = [pieces[place] for place in random.permutation(len(pieces))]
        self._groups = _grouped(drawn, size, window_bytes)
        self._seed = [seed, epoch]
        self.rows = [sum(piece.rows for piece in group) for group in self._groups]

    def pieces(self, window: int) -> list[Piece]:
        """Return the pieces of a window, in the order drawn."""
        return self._groups[window]

    def fills(self, window: int) -> Iterator[Fill]:
        """Yield each piece with a share of a random permutation."""
        places = np.random.default_rng([*self._seed, window]).permutation(self.rows[window])
        start = 0
        for piece in self._groups[window]:
            yield Fill(piece, places[start : start + piece.rows])
            start += piece.rows


class TimeWindows:
    """Windows of consecutive times, rows in the order of time; ties keep the order of the files.

    A piece that reaches over several windows is read for each of them. ``read_times`` is called twice for each
    piece. Raises InputError when so many rows are out of order that a window exceeds its memory twice.
    """

    def __init__(
        self, pieces: Sequence[Piece], size: EncodedSize, window_bytes: int, read_times: Callable[[Piece], Times]
    ) -> None:
        self._read_times = read_times
        spans = [(int(times.min()), int(times.max())) for times in map(read_times, pieces)]
        order = sorted(range(len(pieces)), key=lambda place: spans[place][0])
        groups = _grouped([pieces[place] for place in order], size, window_bytes)
        firsts = np.cumsum([len(group) for group in groups[:-1]], dtype=np.int64)
        self._bounds = np.array([spans[order[first]][0] for first in firsts], np.int64)
        members = [_windows_of(spans[place], self._bounds) for place in range(len(pieces))]
        self._members: list[list[Piece]] = [
            [piece for piece, (low, high) in zip(pieces, members, strict=True) if low <= window <= high]
            for window in range(len(groups))
        ]
        self.rows = self._count(pieces)
        self._check(pieces, size, window_bytes)

    def pieces(self, window: int) -> list[Piece]:
        """Return the pieces that have rows of a window's times."""
        return self._members[window]

    def fills(self, window: int) -> Iterator[Fill]:
        """Yield each piece's rows of the window, ranked by time."""
        times = [self._read_times(piece) for piece in self._members[window]]
        kept = [np.flatnonzero(self._window_of(values) == window) for values in times]
        chosen = np.concatenate([values[rows] for values, rows in zip(times, kept, strict=True)])
        places = np.empty(len(chosen), np.int64)
        places[np.argsort(chosen, kind="stable")] = np.arange(len(chosen))
        start = 0
        for piece, rows in zip(self._members[window], kept, strict=True):
            yield Fill(piece, places[start : start + len(rows)], rows)
            start += len(rows)

    def _window_of(self, times: Times) -> Indices:
        return np.searchsorted(self._bounds, times, side="right")

    def _count(self, pieces: Sequence[Piece]) -> list[int]:
        rows = np.zeros(len(self._bounds) + 1, np.int64)
        for piece in pieces:
            rows += np.bincount(self._window_of(self._read_times(piece)), minlength=len(rows))
        return [int(count) for count in rows]

    def _check(self, pieces: Sequence[Piece], size: EncodedSize, window_bytes: int) -> None:
        largest = max(self.rows, default=0)
        average = size.total(pieces) / max(1, sum(self.rows))
        if largest * average > 2 * window_bytes and len(self.rows) > 1:
            raise InputError(
                f"{largest:,} samples overlap in time between row groups, which take {bytes_text(largest * average)} "
                f"where {bytes_text(window_bytes)} are allowed.",
                "Make the samples again, or raise memory_bytes.",
            )


def _windows_of(span: tuple[int, int], bounds: Indices) -> tuple[int, int]:
    low, high = np.searchsorted(bounds, span, side="right")
    return int(low), int(high)


def _grouped(pieces: Sequence[Piece], size: EncodedSize, window_bytes: int) -> list[list[Piece]]:
    """Return consecutive pieces in groups of at most ``window_bytes``, or of one piece."""
    groups: list[list[Piece]] = []
    used = window_bytes + 1
    for piece in pieces:
        if used + size.of(piece) > window_bytes:
            groups.append([])
            used = 0
        groups[-1].append(piece)
        used += size.of(piece)
    return groups
