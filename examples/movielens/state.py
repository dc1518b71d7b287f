"""What the demo's steps share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from people import Person
from player import Played
from steps import Steps

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.training.run_record import latest_run

HERE = Path(__file__).parent
SERVED = "as served"
DEEP = "deep model, not updated"
TREES = "LightGBM, not updated"
AVERAGE = "the movie's average"
"""Names of those who are compared."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    wheel: Path | None
    epochs: int
    live: int | None
    open_page: bool


@dataclass
class Demo:
    """What the steps need and what they find.

    ``runs`` are training runs by the name of who is compared; ``swapped`` is the time (seconds since 1970) of the
    first rating that version 2 answered, 0 without one; ``refused`` is why a gate refused it.
    """

    options: Options
    steps: Steps
    runs: dict[str, str] = field(default_factory=dict)
    played: Played = field(default_factory=Played)
    swapped: int = 0
    refused: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)
    recommend_seconds: list[float] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The project's folder: a copy, so that the demo can begin anew."""
        return self.steps.project

    @property
    def workspace(self) -> Workspace:
        """The project, loaded."""
        return load_workspace(self.project)

    @property
    def raw(self) -> Path:
        """The prepared files."""
        return self.project / "raw"

    def latest_run(self) -> str:
        """Return the id of the training run that finished last."""
        return latest_run(self.workspace.runs_folder).id


def lines_with(printed: str, *words: str) -> list[str]:
    """Return the lines of a command's answer that hold one of some words."""
    return [line.strip() for line in printed.splitlines() if any(word in line for word in words)]
