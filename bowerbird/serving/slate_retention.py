"""The retention of served slates: segments go, whole, the one first that is longest without a slate."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.workspace import Workspace
from bowerbird.serving.slate_segments import Segment, remove_segment, segments_by_age, sole_remover
from bowerbird.serving.slates import SEGMENT_BYTES, SlateLog

_LOG = logging.getLogger("bowerbird.serving")
_SHARE = 8
"""No segment is more than this part of what is kept, so that the limits hold although segments go whole."""
_DAY = 86_400.0


class SlateRetention:
    """Removes segments of ``folder`` until they take ``most_bytes`` and are of the last ``most_seconds`` (0: no limit).

    Segments that live processes write stay. ``needed_seconds`` is how long slates are of use: a warning says once that
    they go sooner. After ``apply``, ``bytes`` is what all slates of the folder take; ``removed_segments`` and
    ``removed_bytes`` count what this one removed.
    """

    def __init__(self, folder: Path, most_bytes: int, most_seconds: float, needed_seconds: float = 0.0) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._needed_seconds = needed_seconds
        self._refused: set[Path] = set()
        self.bytes = 0
        self.removed_segments = 0
        self.removed_bytes = 0

    def apply(self, now: float) -> None:
        """Remove what is too much at ``now`` (seconds since 1970), unless another process is at it; raises OSError."""
        segments = self._look()
        if any(self._reason(segment, now) for segment in segments):
            with sole_remover(self._folder) as alone:
                if alone:
                    self._remove_of(self._look(), now)

    def _look(self) -> list[Segment]:
        segments = segments_by_age(self._folder)
        self.bytes = sum(segment.bytes for segment in segments)
        return segments

    def _reason(self, segment: Segment, now: float) -> str:
        """Return why a segment is to go; empty where it may stay."""
        if self._most_seconds and now - segment.written > self._most_seconds:
            return f"its last slate is older than {self._most_seconds / _DAY:g} days"
        if self._most_bytes and self.bytes > self._most_bytes:
            return f"all slates take {self.bytes:,} bytes and may take {self._most_bytes:,}"
        return ""

    def _remove_of(self, segments: list[Segment], now: float) -> None:
        for segment in segments:
            reason = self._reason(segment, now)
            if reason and self._remove(segment.file):
                self.bytes -= segment.bytes
                self.removed_bytes += segment.bytes
                self.removed_segments += 1
                _LOG.info("%s was removed (%d bytes): %s", segment.file.name, segment.bytes, reason)
                self._warn_if_needed(now - segment.written)

    def _remove(self, file: Path) -> bool:
        try:
            return remove_segment(file)
        except OSError as error:
            if file not in self._refused:
                _LOG.warning("%s cannot be removed: %s", file, error)
            self._refused.add(file)
            return False

    def _warn_if_needed(self, age: float) -> None:
        if age < self._needed_seconds:
            _LOG.warning(
                "slates are removed after %.1f h, and labels are mature after %.1f h: `bowerbird report` cannot judge "
                "what was served before; raise slates_size and slates_days under [server]",
                age / 3600, self._needed_seconds / 3600,
            )  # fmt: skip
            self._needed_seconds = 0.0


def open_slates(workspace: Workspace) -> tuple[SlateLog, SlateRetention]:
    """Return the log of a workspace's slates and what keeps it within the workspace's limits."""
    server, folder = workspace.settings.server, workspace.slates_folder
    most_bytes, most_seconds = server.slates_bytes, server.slates_days * _DAY
    log = SlateLog(
        folder,
        min(SEGMENT_BYTES, most_bytes // (_SHARE * server.workers)) if most_bytes else SEGMENT_BYTES,
        most_seconds / _SHARE if most_seconds else math.inf,
    )
    return log, SlateRetention(folder, most_bytes, most_seconds, _until_mature(workspace.project))


def _until_mature(project: Project) -> float:
    """Return the longest window of a label in seconds."""
    return max((microseconds(label.within) / 1e6 for label in project.labels), default=0.0)
