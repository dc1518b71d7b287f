"""What a model predicts: one task per label."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bowerbird.declare.scenes import Label
from bowerbird.errors import InputError


class Task(msgspec.Struct, frozen=True):
    """A label to predict over all exposures; ``given`` names the task that must happen first."""

    name: str
    given: str | None = None


def tasks_of(labels: Iterable[Label]) -> tuple[Task, ...]:
    """Return the tasks of a project's labels, in their order."""
    return tuple(Task(label.name, label.given.name if label.given else None) for label in labels)


def check_tasks(tasks: Iterable[Task]) -> None:
    """Raise InputError where a task is given one that is absent, or one that comes later."""
    known: set[str] = set()
    for task in tasks:
        if task.given is not None and task.given not in known:
            raise InputError(
                f"Task {task.name!r} is given {task.given!r}, which is not trained before it.",
                f"Train {task.given!r} too and declare it first.",
            )
        known.add(task.name)
    if not known:
        raise InputError("There is nothing to predict: the project declares no label.", "Declare a Label.")
