"""A project's folder on disk: its declarations, settings and where its data lives."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec

from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.sizes import size_bytes
from bowerbird.errors import DeclarationError, InputError, NotFoundError, Problem

SETTINGS_FILE = "bowerbird.toml"
DECLARATIONS_FILE = "project.py"


_POSITIVE_SERVER_SETTINGS = (
    "workers", "queue", "body_limit", "connections", "idle_seconds", "header_seconds", "body_seconds",
    "write_seconds", "candidate_limit", "event_batch_limit",
)  # fmt: skip


class PathSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Folders relative to the project's: ``raw`` files to ingest, ``data`` that Bowerbird writes."""

    raw: str = "raw"
    data: str = "data"


class ServerSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the server listens and how much it takes.

    ``threads`` score requests side by side in each of ``workers`` processes; with 0 the event loop's own thread scores,
    and without a number there are two, or none where a process has one core. ``queue`` requests may wait for them, and
    a scene that declares no deadline of its own has ``deadline``. ``body_limit`` is in bytes, ``body_memory`` what all
    bodies together may take. Of at most ``connections`` to a process, one is closed that is idle for
    ``idle_seconds``, that takes more than ``header_seconds`` for the head of a request or ``body_seconds`` for all of
    it, or that does not take its answer for ``write_seconds``. ``clock`` is a file, relative to the project's folder,
    that holds the time as microseconds since 1970, for a log that is played back; without it the system tells the
    time. ``grpc_port`` is the port of the Open Inference Protocol over gRPC (0: a free one; -1: not served). ``way``
    pins how models are served (``"native.fp32"``), for all of them or by name (``{ ranker = "native.int8" }``); without
    it each is served by the fastest way that its gates allow. Rows that embedding deltas changed take at most
    ``delta_memory`` of each process and version; a delta that would need more waits. Served slates take at most
    ``slates_size`` on disk and are kept for ``slates_days`` (0: no limit): the oldest go first.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    grpc_port: int = -1
    threads: int | None = None
    workers: int = 1
    queue: int = 1_000
    deadline: str = "5s"
    body_limit: int = 10_000_000
    body_memory: str = "256MB"
    connections: int = 4_000
    idle_seconds: int = 75
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    write_seconds: float = 30.0
    candidate_limit: int = 5_000
    event_batch_limit: int = 10_000
    clock: str = ""
    way: str | dict[str, str] = ""
    delta_memory: str = "1GB"
    slates_size: str = "16GB"
    slates_days: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be."""
        _check_positive(self, _POSITIVE_SERVER_SETTINGS)
        if self.threads is not None and self.threads < 0:
            raise ValueError(f"threads = {self.threads} is below 0")
        microseconds(self.deadline)
        size_bytes(self.body_memory)
        size_bytes(self.delta_memory)
        size_bytes(self.slates_size)
        if not 0.0 <= self.slates_days < math.inf:
            raise ValueError(f"slates_days = {self.slates_days:g} is no number of days; 0 is no limit")

    @property
    def slates_bytes(self) -> int:
        """``slates_size`` in bytes; 0 for no limit."""
        return size_bytes(self.slates_size)

    @property
    def delta_bytes(self) -> int:
        """``delta_memory`` in bytes."""
        return size_bytes(self.delta_memory)

    @property
    def deadline_seconds(self) -> float:
        """``deadline`` in seconds."""
        return microseconds(self.deadline) / 1e6


class StateSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How the server keeps feature state.

    A snapshot is written after ``snapshot_minutes`` or ``snapshot_events``, whichever comes first: a start reads the
    newest one and the log from there. ``memory`` is the most that state may take (``"8GB"``, or bytes; ``"0"`` for no
    limit); ``full`` says what becomes of an event that would need more: ``refuse`` leaves it out of the state (it is in
    the log all the same), ``expire`` lets go of the keys that are longest without one, ``fail`` stops taking events.
    Every ``expire_minutes``, keys go whose windows have passed. ``shared`` is a folder on a memory file system
    (``"/dev/shm/bowerbird"``) through which other processes may read; without it the memory is the server's own.
    """

    snapshot_minutes: float = 10.0
    snapshot_events: int = 1_000_000
    memory: str = "0"
    full: str = "refuse"
    shared: str = ""
    expire_minutes: float = 60.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be."""
        if self.full not in ("refuse", "expire", "fail"):
            raise ValueError(f"full = {self.full!r} is none of refuse, expire, fail")
        _check_positive(self, ("snapshot_minutes", "snapshot_events", "expire_minutes"))
        size_bytes(self.memory)

    @property
    def memory_bytes(self) -> int:
        """``memory`` in bytes; 0 for no limit."""
        return size_bytes(self.memory)


class TrackingSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where finished training runs are sent: ``mlflow`` is a tracking address (``"http://mlflow:5000"``,
    ``"sqlite:////shared/mlflow.db"``), and nothing is sent without one; ``experiment`` defaults to the project's name.

    The environment's MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME come before both.
    """

    mlflow: str = ""
    experiment: str = ""


class TelemetrySettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the server tells of itself beside metrics.

    ``log`` is ``text`` or ``json`` (one object a line); with ``access_log`` each request is a line. ``otlp`` is where
    spans are sent (``"http://collector:4318/v1/traces"``, with the extra ``otel``), of a share ``ratio`` of the
    requests that no caller has decided about.
    """

    log: str = "text"
    access_log: bool = False
    otlp: str = ""
    ratio: float = 0.01

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be."""
        if self.log not in ("text", "json"):
            raise ValueError(f"log = {self.log!r} is none of text, json")
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"ratio = {self.ratio} is not from 0 to 1")


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What ``bowerbird.toml`` may say."""

    paths: PathSettings = msgspec.field(default_factory=PathSettings)
    server: ServerSettings = msgspec.field(default_factory=ServerSettings)
    state: StateSettings = msgspec.field(default_factory=StateSettings)
    tracking: TrackingSettings = msgspec.field(default_factory=TrackingSettings)
    telemetry: TelemetrySettings = msgspec.field(default_factory=TelemetrySettings)


@dataclass(frozen=True)
class Workspace:
    """A loaded project: declarations, settings, folders."""

    folder: Path
    project: Project
    settings: Settings

    @property
    def raw_folder(self) -> Path:
        """Where sources' file patterns start."""
        return self.folder / self.settings.paths.raw

    @property
    def data_folder(self) -> Path:
        """Everything that Bowerbird writes."""
        return self.folder / self.settings.paths.data

    @property
    def log_folder(self) -> Path:
        """Imported records, partitioned Parquet."""
        return self.data_folder / "log"

    @property
    def wal_folder(self) -> Path:
        """The live write-ahead log."""
        return self.data_folder / "wal"

    @property
    def dead_letter_folder(self) -> Path:
        """Rejected records with their reasons."""
        return self.data_folder / "dead-letters"

    @property
    def samples_folder(self) -> Path:
        """Sample datasets by name."""
        return self.data_folder / "samples"

    @property
    def runs_folder(self) -> Path:
        """Training runs by id."""
        return self.data_folder / "runs"

    @property
    def bundles_folder(self) -> Path:
        """Published versions by model and number."""
        return self.data_folder / "bundles"

    @property
    def recall_folder(self) -> Path:
        """Recall indexes."""
        return self.data_folder / "recall"

    @property
    def slates_folder(self) -> Path:
        """Answers that the server gave."""
        return self.data_folder / "slates"

    @property
    def state_folder(self) -> Path:
        """Snapshots of feature state."""
        return self.data_folder / "state"

    @property
    def ways_folder(self) -> Path:
        """Which way each version is served by on which host, and what was measured."""
        return self.data_folder / "ways"

    @property
    def reports_folder(self) -> Path:
        """Reports for people."""
        return self.data_folder / "reports"

    @property
    def keys_file(self) -> Path:
        """Hashes of API keys."""
        return self.data_folder / "keys.json"

    @property
    def clock_file(self) -> Path | None:
        """Where the server reads the time from; None: from the system."""
        return self.folder / self.settings.server.clock if self.settings.server.clock else None

    @property
    def registry_url(self) -> str:
        """SQLAlchemy address of the registry."""
        return f"sqlite:///{self.data_folder / 'registry.db'}"


def load_workspace(folder: str | Path) -> Workspace:
    """Load a project folder: ``project.py`` (which must define ``project``) and ``bowerbird.toml``.

    Raises NotFoundError without declarations, DeclarationError when they do not run, InputError on a
    setting that does not exist.
    """
    root = Path(folder).resolve()
    declarations = root / DECLARATIONS_FILE
    if not declarations.is_file():
        raise NotFoundError(
            f"{root} has no {DECLARATIONS_FILE}.",
            "Give --project FOLDER, or make one with `bowerbird init FOLDER`.",
        )
    return Workspace(root, _load_project(declarations), _load_settings(root / SETTINGS_FILE))


def _check_positive(settings: msgspec.Struct, names: Iterable[str]) -> None:
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name} = {getattr(settings, name)} is not above 0")


def _load_settings(file: Path) -> Settings:
    if not file.is_file():
        return Settings()
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Settings)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InputError(
            f"{file}: {error}.", "See docs/reference/settings.md for what may stand there."
        ) from error


def _load_project(file: Path) -> Project:
    module = _run_module(file)
    project = getattr(module, "project", None)
    if not isinstance(project, Project):
        raise DeclarationError(
            [Problem(str(file), 1, "`project` is not defined.", "Write `project = Project(...)`.")]
        )
    return project


def _run_module(file: Path) -> ModuleType:
    name = f"bowerbird_project_{file.parent.name.replace('-', '_')}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except DeclarationError:
        raise
    except Exception as error:
        raise DeclarationError([_problem_of(error, file)]) from error
    return module


def _problem_of(error: Exception, file: Path) -> Problem:
    """Name the deepest line of the user's file that took part in an exception."""
    line = getattr(error, "lineno", None) or 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return Problem(str(file), line, f"{type(error).__name__}: {error}.", "Correct this line.")
