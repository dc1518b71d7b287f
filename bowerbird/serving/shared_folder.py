"""The folder through which one writer shows its feature state to other processes on the host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bowerbird.declare.workspace import Workspace
from bowerbird.durable import make_folder, storage_errors, write_atomically
from bowerbird.errors import CorruptionError, UnavailableError

_SUFFIX = ".state"
_NO_WRITER = "Start the server with `shared` under [state] in bowerbird.toml."


class SharedIndex(msgspec.Struct, frozen=True):
    """Which files hold the state now; ``generation`` counts the changes, ``pid`` is the writer's process."""

    generation: int
    pid: int
    states: list[str]


class SharedFolder:
    """The writer's side: names files for states, says which are in use, and removes those of dead writers.

    Only the holder of the log's lock may make one: what other processes left behind is removed.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._made = 0
        self._published: list[str] = []
        make_folder(folder)
        for stale in folder.glob(f"{name}-*{_SUFFIX}"):
            stale.unlink(missing_ok=True)

    @property
    def index_file(self) -> Path:
        """Where the index stands."""
        return index_file(self._folder, self._name)

    def new_path(self) -> Path:
        """Return where the next state may be made."""
        self._made += 1
        return self._folder / f"{self._name}-{os.getpid()}-{self._made}{_SUFFIX}"

    def publish(self, paths: Sequence[str]) -> None:
        """Make these files the state that readers find; the ones before go when their readers do."""
        index = SharedIndex(self._last_generation() + 1, os.getpid(), list(paths))
        write_atomically(self.index_file, msgspec.json.encode(index))
        for path in set(self._published) - set(paths):
            Path(path).unlink(missing_ok=True)
        self._published = list(paths)

    def close(self) -> None:
        """Remove the files: who has them open reads on, nobody else finds them."""
        self.index_file.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._name}-{os.getpid()}-*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _last_generation(self) -> int:
        try:
            return read_index(self.index_file).generation
        except (UnavailableError, CorruptionError):
            return 0


def index_file(folder: Path, name: str) -> Path:
    """Return where a writer's index stands."""
    return folder / f"{name}.json"


def read_index(file: Path) -> SharedIndex:
    """Return a writer's index; raises UnavailableError where there is none, CorruptionError for what is none."""
    with storage_errors(file):
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            raise UnavailableError(f"No server shows its state at {file}.", _NO_WRITER) from error
    try:
        return msgspec.json.decode(content, type=SharedIndex)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{file} is no index of state: {error}.", "Delete it, restart the server.") from error


def shared_place(workspace: Workspace) -> tuple[Path, str]:
    """Return a workspace's folder of shared state and its name there; UnavailableError where it shares none."""
    shared = workspace.settings.state.shared
    if not shared:
        raise UnavailableError(f"{workspace.folder} does not share its state.", _NO_WRITER)
    place = hashlib.sha256(str(workspace.data_folder.resolve()).encode()).hexdigest()[:8]
    return workspace.folder / shared, f"{workspace.project.name}-{place}"


def open_shared_folder(workspace: Workspace) -> SharedFolder | None:
    """Return the writer's side for a workspace, None where it shares nothing."""
    return SharedFolder(*shared_place(workspace)) if workspace.settings.state.shared else None
