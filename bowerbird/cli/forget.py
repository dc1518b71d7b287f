"""``bowerbird forget``."""

from __future__ import annotations

import time

import click

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.serving.forget import forget


@click.command("forget")
@click.option("--user", required=True, help="The user's id, as the log has it.")
@click.confirmation_option("--yes", prompt="This cannot be undone. Go on?", help="Do not ask.")
@project_option
def forget_command(workspace: Workspace, user: str) -> None:
    """Erase one user from log, dead letters, slates, state and samples. Stop the server first."""
    for line in forget(workspace, user, time.time_ns() // 1_000).lines():
        console.print(line, markup=False)
