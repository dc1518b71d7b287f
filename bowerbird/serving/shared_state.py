"""Reading another process's feature state through shared memory, without waiting for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError, CorruptionError, UnavailableError
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.encode import Encoder
from bowerbird.plan.read import PlanReader
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState, Usage
from bowerbird.serving.shared_folder import SharedIndex, index_file, read_index, shared_place
from bowerbird.serving.state_groups import StateGroup, choose_groups, summed

Id = str | int
_ATTEMPTS = 20


@dataclass(frozen=True)
class _Attached:
    """What one generation's files gave."""

    stamp: tuple[int, int]
    index: SharedIndex
    groups: list[StateGroup]
    reader: PlanReader


class SharedReader:
    """A plan's features from the state of the server on this host; from many threads.

    A read answers at one log position, its block's ``lsn``, whatever the writer does meanwhile. When the server
    changes its groups of aggregates or is started anew, the next read follows; while it is down, reads answer as of
    what it published last. ``functions`` is the folder of the plan's functions, a bundle's for instance.

    Raises UnavailableError where no server shows state, or not what the plan needs.
    """

    def __init__(self, folder: Path, name: str, plan: Plan, functions: Path | None = None) -> None:
        self.plan = plan
        self.encoder = Encoder(plan)
        self._file = index_file(folder, name)
        self._functions = functions
        self._lock = threading.Lock()
        self._nobody = self.encoder.encode_request(None, {})
        self._attached = self._attach()

    @property
    def lsn(self) -> int:
        """How many records a read sees now."""
        return min(group.state.lsn for group in self._current().groups)

    @property
    def generation(self) -> int:
        """Which of the writer's generations is read."""
        return self._attached.index.generation

    @property
    def writer(self) -> int:
        """The process that wrote what is read."""
        return self._attached.index.pid

    def read(self, time_us: int, user: Id | None, context: Mapping[str, Any], candidates: Keys) -> FeatureBlock:
        """Return features for a request: one row of request stage, one per candidate of the others."""
        request = self._nobody if user is None else self.encoder.encode_request(user, context)
        for _ in range(_ATTEMPTS):
            try:
                return self._current().reader.read(time_us, request, candidates)
            except RuntimeError:
                self._follow()
        raise UnavailableError("The server's state changes faster than it can be read.", "Try again.")

    def usage(self) -> Usage:
        """Return the size of the groups that the plan reads, with what others read there."""
        return summed([group.state.usage() for group in self._current().groups])

    def _current(self) -> _Attached:
        attached = self._attached
        return attached if self._stamp() in (attached.stamp, None) else self._follow()

    def _follow(self) -> _Attached:
        """Attach to what the index names now; stay where that cannot be read yet."""
        with self._lock:
            if self._stamp() not in (self._attached.stamp, None):
                with contextlib.suppress(BowerbirdError):
                    self._attached = self._attach()
            return self._attached

    def _attach(self) -> _Attached:
        for _ in range(_ATTEMPTS):
            stamp = self._stamp()
            index = read_index(self._file)
            try:
                groups = [StateGroup(FeatureState.attach(Path(path))) for path in index.states]
            except CorruptionError:
                continue
            chosen = choose_groups(self.plan, groups)
            if chosen is None or stamp is None:
                break
            return _Attached(stamp, index, chosen, PlanReader(self.plan, [g.state for g in chosen], self._functions))
        raise UnavailableError(
            f"The state that {self._file} names is not what the plan of {self.plan.project!r} needs.",
            "Wait until the server is ready and its version of the model is live.",
        )

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def open_shared_reader(workspace: Workspace, plan: Plan, functions: Path | None = None) -> SharedReader:
    """Return a reader of the state that a workspace's server shows; raises UnavailableError as ``SharedReader``."""
    folder, name = shared_place(workspace)
    return SharedReader(folder, name, plan, functions)
