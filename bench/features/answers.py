"""What an engine answered, in a form in which engines are compared: every column, every row, by the exposure's time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.features.plan import SEQUENCE

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]
DECAYED_TOLERANCE = 2e-6
"""Peers sum a decayed counter's weights as doubles, ours as integers with 20 binary digits after the point."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of n exposures end to end, oldest first: ``offsets`` int64 [n + 1], keys and float32 seconds."""

    offsets: Integers
    item: Words
    category: Words
    age: Floats


@dataclass(frozen=True)
class Answers:
    """Features of exposures: ``times`` int64 [n] ascending (unique, so they name the rows), columns float32 [n]."""

    times: Integers
    numbers: dict[str, Floats] = field(default_factory=dict)
    sequences: Sequences | None = None


def joined(parts: list[Answers]) -> Answers:
    """Return consecutive parts as one."""
    names = list(parts[0].numbers)
    numbers = {name: np.concatenate([part.numbers[name] for part in parts]) for name in names}
    sequences = [part.sequences for part in parts if part.sequences is not None]
    return Answers(np.concatenate([part.times for part in parts]), numbers, _joined(sequences) if sequences else None)


def _joined(parts: list[Sequences]) -> Sequences:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Sequences(
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.concatenate([part.item for part in parts]),
        np.concatenate([part.category for part in parts]),
        np.concatenate([part.age for part in parts]),
    )


class Checksums:
    """Digests of every column over every row's time and value, in whatever order rows come, and columns' sums."""

    def __init__(self) -> None:
        self.digests: dict[str, int] = {}
        self.sums: dict[str, float] = {}

    def add(self, answers: Answers) -> None:
        """Add rows."""
        times = _mixed(answers.times.view(np.uint64))
        for name, column in answers.numbers.items():
            self._add(name, times, np.ascontiguousarray(column).view(np.uint32))
            self.sums[name] = self.sums.get(name, 0.0) + float(np.nansum(column, dtype=np.float64))
        if answers.sequences is not None:
            self._add_sequences(times, answers.sequences)

    def _add_sequences(self, times: Words, sequences: Sequences) -> None:
        lengths = np.diff(sequences.offsets)
        places = np.arange(len(sequences.age)) - np.repeat(sequences.offsets[:-1], lengths)
        rows = _mixed(np.repeat(times, lengths) + places.astype(np.uint64))
        self._add(f"{SEQUENCE}.item", rows, sequences.item)
        self._add(f"{SEQUENCE}.category", rows, sequences.category)
        self._add(f"{SEQUENCE}.age", rows, np.ascontiguousarray(sequences.age).view(np.uint32))

    def _add(self, name: str, rows: Words, values: npt.NDArray[np.unsignedinteger]) -> None:
        digest = int(np.add.reduce(_mixed(rows ^ _mixed(values.astype(np.uint64)))))
        self.digests[name] = (self.digests.get(name, 0) + digest) % 2**64

    def differences(self, other: Checksums, approximate: list[str]) -> list[str]:
        """Return the columns that differ: in any bit, or for ``approximate`` ones in their sum beyond the tolerance."""
        different = [name for name, digest in self.digests.items() if other.digests.get(name) != digest]
        return [name for name in different if name not in approximate or not self._near(other, name)]

    def _near(self, other: Checksums, name: str) -> bool:
        return bool(np.isclose(self.sums[name], other.sums.get(name, np.nan), rtol=DECAYED_TOLERANCE))


def _mixed(words: Words) -> Words:
    """Return SplitMix64's finaliser of every word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def differences(ours: Answers, peer: Answers, approximate: list[str]) -> list[str]:
    """Return what differs: columns must be bit-equal (NaN equals NaN), ``approximate`` ones within the tolerance."""
    if not np.array_equal(ours.times, peer.times):
        return ["other rows"]
    found = []
    for name, column in ours.numbers.items():
        tolerance = DECAYED_TOLERANCE if name in approximate else 0.0
        equal = np.isclose(peer.numbers[name], column, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not equal.all():
            found.append(f"{name}: {np.count_nonzero(~equal):,} of {len(column):,} rows")
    if ours.sequences is not None and peer.sequences is not None:
        for name in ("offsets", "item", "category", "age"):
            if not np.array_equal(getattr(ours.sequences, name), getattr(peer.sequences, name)):
                found.append(f"sequence.{name}")
    return found
