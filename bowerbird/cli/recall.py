"""``bowerbird recall``: builds the item-to-item indexes."""

from __future__ import annotations

import click

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.recall.build import build_indexes


@click.command("recall")
@project_option
def recall_command(workspace: Workspace) -> None:
    """Build the item-to-item indexes of co-visitation channels from the log."""
    built = build_indexes(workspace)
    if not built:
        console.print("No scene declares a co-visitation channel: there is nothing to build.")
    for manifest in built:
        console.print(f"{manifest.channel}: {manifest.items:,} items, {manifest.pairs:,} neighbours.")
