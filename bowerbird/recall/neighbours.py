"""Item-to-item neighbours: who acted on this also acted on those; plain arrays with hashes in a folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import CorruptionError
from bowerbird.plan.block import Keys

_ARRAYS = ("items", "offsets", "neighbours", "weights")
MANIFEST = "manifest.json"


class IndexManifest(msgspec.Struct):
    """What an index was built from; ``sha256`` by array. ``channel`` is the plan feature's name."""

    channel: str
    lsn: int
    items: int
    pairs: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class NeighbourIndex:
    """Neighbours of item r are ``[offsets[r]:offsets[r + 1]]``, best first.

    ``items`` uint64 [items] ascending, ``offsets`` int64 [items + 1], ``neighbours`` uint64 [pairs],
    ``weights`` float32 [pairs].
    """

    items: Keys
    offsets: npt.NDArray[np.int64]
    neighbours: Keys
    weights: npt.NDArray[np.float32]

    @staticmethod
    def empty() -> NeighbourIndex:
        """Return an index without items."""
        none = np.empty(0, np.uint64)
        return NeighbourIndex(none, np.zeros(1, np.int64), none, np.empty(0, np.float32))

    def merge(self, history: Keys, decay: float, count: int) -> tuple[Keys, npt.NDArray[np.float32]]:
        """Return the best neighbours of a history (oldest first), each event weighing ``decay`` of the next."""
        positions = np.searchsorted(self.items, history)
        rows = [
            (int(position), decay**age)
            for age, (position, key) in enumerate(zip(positions[::-1], history[::-1], strict=True))
            if position < len(self.items) and self.items[position] == key
        ]
        if not rows:
            return np.empty(0, np.uint64), np.empty(0, np.float32)
        spans = [slice(self.offsets[row], self.offsets[row + 1]) for row, _ in rows]
        keys = np.concatenate([self.neighbours[span] for span in spans])
        weights = np.concatenate([self.weights[span] * weight for span, (_, weight) in zip(spans, rows, strict=True)])
        distinct, inverse = np.unique(keys, return_inverse=True)
        totals = np.bincount(inverse, weights, len(distinct)).astype(np.float32)
        order = np.lexsort((distinct, -totals))[:count]
        return distinct[order], totals[order]

    def save(self, folder: Path, channel: str, lsn: int) -> IndexManifest:
        """Write the arrays and their manifest into a new folder, whole or not at all."""
        temporary = folder.with_name(f".{folder.name}.tmp")
        temporary.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
        hashes = {name: _hash(temporary / f"{name}.npy") for name in _ARRAYS}
        manifest = IndexManifest(channel, lsn, len(self.items), len(self.neighbours), hashes)
        (temporary / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        temporary.rename(folder)
        return manifest

    @staticmethod
    def load(folder: Path) -> NeighbourIndex:
        """Read an index; raises CorruptionError where a hash disagrees."""
        try:
            manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=IndexManifest)
            for name in _ARRAYS:
                if _hash(folder / f"{name}.npy") != manifest.sha256.get(name):
                    raise CorruptionError(f"{folder / name}.npy is not what was written.", "Build the index again.")
            arrays = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS]
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise CorruptionError(f"{folder} is not a recall index: {error}.", "Build the index again.") from error
        return NeighbourIndex(*arrays)


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
