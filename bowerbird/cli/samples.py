"""``bowerbird samples``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bowerbird.cli.common import console, instant, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError
from bowerbird.plan.check import require_valid
from bowerbird.recall.plan import recall_plan
from bowerbird.samples.build import build_samples
from bowerbird.samples.columns import read_declaration
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.samples.columns_plan import ReadyNames
from bowerbird.samples.report import describe


@click.command("samples")
@click.option("--name", default="default", show_default=True, help="Name of the dataset.")
@click.option("--since", metavar="DATE", help="First exposure to take.")
@click.option("--until", metavar="DATE", help="Take exposures before this.")
@click.option(
    "--negatives", default=1.0, show_default=True, help="Share of exposures without a positive to keep."
)
@click.option(
    "--from-columns",
    "declaration",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Take ready-made feature columns from the tables that a TOML file declares, instead of replaying the log.",
)
@project_option
def samples_command(
    workspace: Workspace, name: str, since: str | None, until: str | None, negatives: float, declaration: Path | None
) -> None:
    """Replay the log into training samples, or take a table's own columns, and describe them."""
    if declaration is not None:
        if since is not None or until is not None or negatives != 1.0:
            raise InputError(
                "--since, --until and --negatives choose exposures of the log, not rows of a table.",
                "Leave them out, and choose rows where the table is written.",
            )
        _from_columns(workspace, name, declaration)
        return
    require_valid(workspace.project)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("exposures")
        manifest = build_samples(
            workspace,
            name,
            since=instant(since),
            until=instant(until),
            negative_rate=negatives,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            beside=recall_plan(workspace.project).plan,
        )
    console.print(describe(manifest), markup=False)


def _from_columns(workspace: Workspace, name: str, declaration: Path) -> None:
    project = workspace.project
    entity_types = {"user": project.user.id.value, "item": project.item.id.value}
    names = ReadyNames(project.name, project.exposure.name, entity_types)
    columns = read_declaration(declaration)
    manifest = build_from_columns(workspace.samples_folder, name, columns, declaration.parent, names=names)
    console.print(describe(manifest), markup=False)
