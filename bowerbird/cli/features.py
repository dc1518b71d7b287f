"""``bowerbird features`` and ``bowerbird explain``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bowerbird.cli.common import console, project_option
from bowerbird.cli.explain_text import explanation_table, explanation_title, feature_tree
from bowerbird.cli.features_text import catalogue_table, catalogue_title, feature_page
from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.catalogue import make_catalogue
from bowerbird.monitoring.explain import explain
from bowerbird.monitoring.feature_cost import measure_costs, write_costs
from bowerbird.monitoring.subject import fitted_plan
from bowerbird.plan.check import require_valid


@click.command("features")
@click.argument("name", required=False)
@click.option("--cost", is_flag=True, help="Replay the log to measure state and cost; kept for later calls.")
@click.option("--records", default=200_000, show_default=True, help="How many log records --cost times.")
@click.option("--samples", metavar="NAME", help="Sample folder of coverage and moments; default: the latest.")
@click.option("--day", metavar="DATE", help="Only the samples of this day (UTC), such as 2024-05-01.")
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as JSON.")
@project_option
def features_command(
    workspace: Workspace,
    name: str | None,
    cost: bool,
    records: int,
    samples: str | None,
    day: str | None,
    as_json: bool,
) -> None:
    """List every feature, or show one in full: what it is, holds and costs, and which versions use it."""
    require_valid(workspace.project)
    if cost:
        with _bar("replaying") as progress:
            write_costs(workspace, measure_costs(workspace, fitted_plan(workspace), records, progress))
    with _bar("samples") as progress:
        catalogue = make_catalogue(workspace, name, samples=samples, day=day, progress=progress)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(catalogue)))
        return
    if name is not None:
        console.print(feature_page(catalogue.features[0]))
    else:
        console.print(catalogue_table(catalogue))
    console.print(catalogue_title(catalogue), markup=False, soft_wrap=True)


@click.command("explain")
@click.argument("identity", metavar="EXPOSURE_ID")
@click.argument("feature", required=False)
@click.option("--item", metavar="ITEM", help="EXPOSURE_ID is a slate id: explain this candidate of it.")
@click.option("--events", "limit", default=20, show_default=True, help="How many events to list for each state.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
@project_option
def explain_command(
    workspace: Workspace, identity: str, feature: str | None, item: str | None, limit: int, as_json: bool
) -> None:
    """Show the log events behind a feature's value of one exposure, or all its values.

    The value is computed twice: by replaying the log to the read, and out of the events shown. Exits with 1 when they
    differ, or differ from what a slate holds.
    """
    require_valid(workspace.project)
    with _bar("reading the log") as progress:
        found = explain(workspace, identity, feature, item=item, limit=limit, progress=progress)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        console.print(explanation_title(found), markup=False, soft_wrap=True)
        console.print(explanation_table(found) if feature is None else feature_tree(found.features[0]))
    if not found.agrees:
        sys.exit(1)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)
