"""``bowerbird samples``."""

from __future__ import annotations

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bowerbird.cli.common import console, instant, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.plan.check import require_valid
from bowerbird.recall.plan import recall_plan
from bowerbird.samples.build import build_samples
from bowerbird.samples.report import describe


@click.command("samples")
@click.option("--name", default="default", show_default=True, help="Name of the dataset.")
@click.option("--since", metavar="DATE", help="First exposure to take.")
@click.option("--until", metavar="DATE", help="Take exposures before this.")
@click.option(
    "--negatives", default=1.0, show_default=True, help="Share of exposures without a positive to keep."
)
@project_option
def samples_command(
    workspace: Workspace, name: str, since: str | None, until: str | None, negatives: float
) -> None:
    """Replay the log into training samples and describe them."""
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
