"""The catalogue or an explanation, made in a process of its own: ``python -m bowerbird.monitoring.process``.

The arguments come as JSON on standard input; the answer, or the error, goes as JSON to standard output. A server asks
this way, so that minutes of replay neither hold its interpreter nor outlive their time.
"""

from __future__ import annotations

import os
import sys

import msgspec

from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import BowerbirdError
from bowerbird.monitoring.catalogue import Catalogue, make_catalogue
from bowerbird.monitoring.explain import explain
from bowerbird.monitoring.explanation import Explanation

_POLITE = 10


class CatalogueTask(msgspec.Struct, frozen=True, tag="catalogue"):
    """Make the catalogue of a project's folder."""

    folder: str


class ExplainTask(msgspec.Struct, frozen=True, tag="explain"):
    """Explain an exposure, or a slate's item, in a project's folder; see ``explain``."""

    folder: str
    identity: str
    feature: str | None
    item: str | None
    limit: int


class Failure(msgspec.Struct, frozen=True):
    """An error on its way to the asking process: its class's code, and what it says."""

    code: str
    what: str
    remedy: str


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a task came to: one of the three."""

    catalogue: Catalogue | None = None
    explanation: Explanation | None = None
    failure: Failure | None = None


Task = CatalogueTask | ExplainTask


def run_task(task: Task) -> Outcome:
    """Return a task's outcome; errors that a user can meet are part of it."""
    try:
        workspace = load_workspace(task.folder)
        if isinstance(task, CatalogueTask):
            return Outcome(catalogue=make_catalogue(workspace))
        found = explain(workspace, task.identity, task.feature, item=task.item, limit=task.limit)
        return Outcome(explanation=found)
    except BowerbirdError as error:
        return Outcome(failure=Failure(error.code, error.what, error.remedy))


def main() -> None:
    """Answer the task on standard input, at a low priority."""
    os.nice(_POLITE)
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(run_task(task)))


if __name__ == "__main__":
    main()
