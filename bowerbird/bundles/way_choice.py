"""Which way a version is served by on a host, why, and the note of it that later starts read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bowerbird.bundles.host import Host
from bowerbird.bundles.way_results import is_exact
from bowerbird.durable import write_atomically
from bowerbird.errors import StorageError

_LOG = logging.getLogger("bowerbird.serving")
NEARLY = 1.05
"""A way in fewer bits must be so many times as fast as the fastest in float32."""
Why = Literal["fastest", "pinned", "only way", "fallback"]


class WayTiming(msgspec.Struct, frozen=True):
    """A way's microseconds per candidate of one request, by the number of candidates."""

    way: str
    microseconds: dict[int, float]

    @property
    def mean(self) -> float:
        """The mean over the numbers of candidates."""
        return sum(self.microseconds.values()) / len(self.microseconds)


class RefusedWay(msgspec.Struct, frozen=True):
    """A way that the gates allow and that this host could not load or that answered wrongly."""

    way: str
    reason: str


class WayChoice(msgspec.Struct, frozen=True):
    """The way that a version is served by, why, on which host, and what was measured there.

    ``why`` is *fastest*, *pinned* (by a setting), *only way*, or *fallback* (a better one failed, see ``refused``).
    """

    way: str
    why: Why
    host: Host
    timings: list[WayTiming] = []
    refused: list[RefusedWay] = []

    def covers(self, ways: Iterable[str]) -> bool:
        """Return whether all of some ways were measured or refused."""
        return set(ways) <= {each.way for each in self.timings} | {each.way for each in self.refused}


def ranked(timings: Sequence[WayTiming]) -> list[str]:
    """Return the ways, best first: by speed, where one in float32 goes before those that hardly gain on it."""
    return [each.way for each in sorted(timings, key=lambda one: one.mean / (NEARLY if is_exact(one.way) else 1.0))]


class ChoiceStore:
    """Choices in a folder: one file for each digest, a version's or a structure's, and host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str, host: Host) -> WayChoice | None:
        """Return the choice that was made before, or None; a file that cannot be read is as none."""
        file = self._file(digest, host)
        return self._read(file) if file.is_file() else None

    def _read(self, file: Path) -> WayChoice | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=WayChoice)
        except (OSError, msgspec.MsgspecError) as error:
            _LOG.warning("%s cannot be read, ways are measured again: %s", file, error)
            return None

    def of(self, digest: str) -> list[WayChoice]:
        """Return what was chosen for a version on any host, in the order of the files' names."""
        found = (self._read(file) for file in sorted(self._folder.glob(f"{digest[:16]}-*.json")))
        return [choice for choice in found if choice is not None]

    def put(self, digest: str, choice: WayChoice) -> None:
        """Keep a choice; where the disk refuses, the next start measures again."""
        file = self._file(digest, choice.host)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, msgspec.json.format(msgspec.json.encode(choice)))
        except (OSError, StorageError) as error:
            _LOG.warning("%s was not written, ways are measured again at the next start: %s", file, error)

    def _file(self, digest: str, host: Host) -> Path:
        return self._folder / f"{digest[:16]}-{host.fingerprint}.json"
