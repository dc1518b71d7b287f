"""``bowerbird parity``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from bowerbird.cli.common import console, instant, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.parity import check_parity, describe_parity
from bowerbird.monitoring.report import slates_since
from bowerbird.serving.logged_slates import LoggedSlate
from bowerbird.serving.threads import bound_model_threads


@click.command("parity")
@click.option("--slates", "count", type=click.IntRange(min=1), metavar="N", help="Only the last N slates.")
@click.option("--since", metavar="DATE", help="Only slates served since then.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@project_option
def parity_command(workspace: Workspace, count: int | None, since: str | None, as_json: bool) -> None:
    """Compute every served feature and score again from the log, and compare.

    Exits with 1 when a logged feature is not bit-equal to what replay gives, or a score is not as near as the way that
    it was served by promises: within 1e-5 in float32, the same bits in fewer (elsewhere, what the gates measured).
    """
    bound_model_threads(workspace.settings.server)
    served: Iterable[LoggedSlate] = slates_since(workspace, instant(since))
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
