"""``bowerbird check`` and ``bowerbird plan``."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.table import Table

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.plan.check import check, require_valid
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan

_SECOND = 1_000_000


@click.command("check")
@project_option
def check_command(workspace: Workspace) -> None:
    """Find every mistake in the declarations."""
    problems = check(workspace.project)
    for problem in problems:
        console.print(str(problem), markup=False, soft_wrap=True)
    if problems:
        console.print(f"{len(problems)} mistakes.")
        sys.exit(1)
    project = workspace.project
    console.print(
        f"{project.name}: {len(project.record_types)} record types, {len(project.features)} features, "
        f"{len(project.labels)} labels, {len(project.scenes)} scenes. No mistakes."
    )


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@project_option
def plan_command(workspace: Workspace, as_json: bool) -> None:
    """Show the compiled feature plan: features, aggregates and fingerprints."""
    require_valid(workspace.project)
    plan = compile_plan(workspace.project)
    if as_json:
        click.echo(msgspec.json.format(plan.to_json()).decode())
        return
    console.print(_features(plan))
    console.print(_aggregates(plan))
    fitted = f"; {len(plan.fits)} transforms to fit" if plan.fits else ""
    console.print(f"Plan {plan.fingerprint}: {len(plan.nodes)} operations, {len(plan.slots)} slots{fitted}.")


def _features(plan: Plan) -> Table:
    table = Table("feature", "kind", "stage", "operation", "vocabulary", title="Features")
    for feature in plan.features:
        node = plan.nodes[feature.node]
        operation = plan.aggregates[node.aggregate].title if node.aggregate >= 0 else node.op
        length = f" × {feature.length}" if feature.kind == "sequence" else ""
        table.add_row(feature.name, feature.kind + length, feature.stage, operation, feature.vocabulary)
    return table


def _aggregates(plan: Plan) -> Table:
    table = Table("fingerprint", "aggregate", "window", "tile", "half-life", title="Aggregates")
    for aggregate in plan.aggregates:
        sizes = [aggregate.window, aggregate.tile, aggregate.half_life]
        shown = [f"{size // _SECOND:,} s" if size else "" for size in sizes]
        table.add_row(aggregate.fingerprint, aggregate.title, *shown)
    return table
