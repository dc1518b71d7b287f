"""``bowerbird report``."""

from __future__ import annotations

import sys

import click
import torch
from rich.progress import Progress, SpinnerColumn, TextColumn

from bowerbird.cli.common import console, instant, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.report import describe_report, make_report, write_report


@click.command("report")
@click.option("--since", metavar="DATE", help="Only slates served since then.")
@project_option
def report_command(workspace: Workspace, since: str | None) -> None:
    """Judge what was served: live metrics by version, coverage, parity with replay.

    Exits with 1 when a logged feature or score is not what replay gives.
    """
    torch.set_num_threads(1)  # many small programs: a second thread costs more than it saves
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("replaying")
        report = make_report(
            workspace, instant(since), lambda n: bar.update(task, description=f"replayed {n:,} slates")
        )
    console.print(describe_report(report), markup=False, soft_wrap=True)
    console.print(f"Written to {write_report(workspace, report)}", markup=False)
    if not report.parity.holds:
        sys.exit(1)
