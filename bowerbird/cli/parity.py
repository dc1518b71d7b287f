"""``bowerbird parity``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

import click
import msgspec
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from bowerbird.cli.common import console, instant, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.parity import check_parity, describe_parity
from bowerbird.monitoring.report import slates_since
from bowerbird.serving.slate import Slate


@click.command("parity")
@click.option("--slates", "count", type=click.IntRange(min=1), metavar="N", help="Only the last N slates.")
@click.option("--since", metavar="DATE", help="Only slates served since then.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@project_option
def parity_command(workspace: Workspace, count: int | None, since: str | None, as_json: bool) -> None:
    """Compute every served feature and score again from the log, and compare.

    Exits with 1 when a logged feature is not bit-equal to what replay gives, or a score differs by more than 1e-5.
    """
    torch.set_num_threads(1)  # many small programs: a second thread costs more than it saves
    served: Iterable[Slate] = slates_since(workspace, instant(since))
    served = served if count is None else deque(served, maxlen=count)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying")
        found = check_parity(workspace, served, lambda n: bar.update(task, description=f"replayed {n:,} slates"))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"holds": found.holds, **msgspec.to_builtins(found)})))
    else:
        console.print("\n".join(describe_parity(found)), markup=False, soft_wrap=True)
    if not found.holds:
        sys.exit(1)
