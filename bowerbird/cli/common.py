"""What every command shares: the project option, the console, dates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.errors import InputError

console = Console(highlight=False)


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project FOLDER``, which hands the command a loaded ``workspace``."""
    return click.option(
        "--project",
        "workspace",
        default=".",
        show_default=True,
        metavar="FOLDER",
        callback=_load,
        help="The project's folder.",
    )(command)


def _load(_context: click.Context, _parameter: click.Parameter, folder: str) -> Workspace:
    return load_workspace(folder)


def instant(text: str | None) -> int | None:
    """Return an ISO 8601 date or time (UTC unless it says otherwise) in microseconds; raises InputError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is not a date.", "Write 2024-05-01 or 2024-05-01T12:00:00+02:00."
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
