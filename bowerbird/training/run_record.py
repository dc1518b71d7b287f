"""What a training run is: its settings and outcome, as ``run.json`` in its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from bowerbird.durable import write_atomically
from bowerbird.errors import CorruptionError, NotFoundError
from bowerbird.models.task import Task
from bowerbird.training.batches.split import Split

RUN_FILE = "run.json"
PLAN_FILE = "plan.json"
CALIBRATION_FILE = "calibration.json"
METRICS_FILE = "metrics.json"


class RunSettings(msgspec.Struct, frozen=True):
    """Everything that determines the outcome of a run.

    ``options``, ``embedding`` and ``trainer`` are the configurations as plain data.
    """

    model: str
    samples: str
    samples_sha256: str
    plan: str
    tasks: list[Task]
    split: Split
    seed: int
    options: dict[str, Any] = {}
    embedding: dict[str, Any] = {}
    trainer: dict[str, Any] = {}
    from_run: str | None = None
    trees: bool = False
    """Whether LightGBM is trained beside the network and averaged with it."""
    calibration: str = "auto"
    """Which calibration is fitted on validation; ``auto`` chooses."""
    negative_rate: float = 1.0
    """Share of the negatives that the samples' source kept, where their weights do not say so."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any setting of the training (not with its calibration's)."""
        plain = msgspec.to_builtins(self)
        kept = {name: value for name, value in plain.items() if name not in ("calibration", "negative_rate")}
        return hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:16]


class RunRecord(msgspec.Struct, frozen=True):
    """A run's settings and how far it came; ``seconds`` is the time of the last sitting.

    ``packages`` are the versions of Python and of the packages that the outcome depends on. Samples, features and
    seed are among the settings; metrics and curve have files of their own in the folder.
    """

    id: str
    settings: RunSettings
    code: str
    created: str
    status: Literal["training", "done"] = "training"
    precision: str = ""
    steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    notes: list[str] = []
    packages: dict[str, str] = {}


def write_run(folder: Path, record: RunRecord) -> None:
    """Replace a run's record, durably."""
    write_atomically(folder / RUN_FILE, msgspec.json.format(msgspec.json.encode(record)))


def read_run(folder: Path) -> RunRecord:
    """Read a run's record; raises NotFoundError or CorruptionError."""
    file = folder / RUN_FILE
    if not file.is_file():
        raise NotFoundError(f"There is no run {folder.name!r}.", f"Runs are folders of {folder.parent.name}/.")
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunRecord)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{file} is damaged: {error}.", "Train again.") from error


def list_runs(runs_folder: Path) -> list[RunRecord]:
    """Return all runs, oldest first."""
    files = sorted(runs_folder.glob(f"*/{RUN_FILE}")) if runs_folder.is_dir() else []
    return sorted((read_run(file.parent) for file in files), key=lambda record: (record.created, record.id))


def latest_run(runs_folder: Path) -> RunRecord:
    """Return the newest finished run; raises NotFoundError without one."""
    finished = [record for record in list_runs(runs_folder) if record.status == "done"]
    if not finished:
        raise NotFoundError("There is no finished run.", "Train one with `bowerbird train`.")
    return finished[-1]
