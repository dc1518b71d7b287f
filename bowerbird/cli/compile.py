"""``bowerbird compile``: what the staging compiler makes of a run's model."""

from __future__ import annotations

import click
from rich.table import Table

from bowerbird.cli.common import console, project_option
from bowerbird.compiler.cost import StageCost, measure_rates
from bowerbird.compiler.explain import Explanation, explain
from bowerbird.compiler.staging import compile_module, prove
from bowerbird.declare.workspace import Workspace
from bowerbird.training.run_record import latest_run
from bowerbird.training.trained import load_run_network


@click.command("compile")
@click.argument("run", required=False)
@click.option("--explain", "explained", is_flag=True, help="Show what was split, what was not, and why.")
@project_option
def compile_command(workspace: Workspace, run: str | None, explained: bool) -> None:
    """Cut a run's model into its request, item and candidate stages (by default the latest run's)."""
    network = load_run_network(workspace.runs_folder / (run or latest_run(workspace.runs_folder).id))
    model = network.model
    compilation = compile_module(model, model.inputs.example(4), model.inputs.stages, measure_rates())
    worst = prove(model, compilation.program, model.inputs.request_rows)
    explanation = explain(compilation)
    console.print(_stages(explanation))
    console.print(
        f"{type(model).__name__}: a candidate takes {explanation.gain:.2f} times fewer operations. "
        f"Logits differ from the module's by {worst:.1e} at most."
    )
    if explained:
        _show(explanation)


def _stages(explanation: Explanation) -> Table:
    table = Table("stage", "computed", "operations", "in products", "weights", "values")
    computed = {"request": "once per request", "item": "when an item changes", "pair": "per candidate"}
    table.add_row("as written", "per candidate", *_cost(explanation.written))
    for stage, cost in explanation.stages.items():
        table.add_row(stage, computed[stage], *_cost(cost))
    return table


def _cost(cost: StageCost) -> tuple[str, ...]:
    return f"{cost.flops:,}", f"{cost.products:,}", f"{cost.weights:,} B", f"{cost.values:,} B"


def _show(explanation: Explanation) -> None:
    split = Table("line", "laws", title="Split")
    for each in explanation.splits:
        split.add_row(str(each.where), ", ".join(f"{law} × {count}" for law, count in each.laws))
    console.print(split)
    unsplit = Table("line", "operation", "shape", "share", "why", title="Left to each candidate")
    for kept in explanation.unsplit:
        shape = " × ".join(map(str, kept.shape)) or "1"
        unsplit.add_row(str(kept.where), kept.operation, shape, f"{kept.share:.0%}", kept.reason)
    console.print(unsplit)
    left = Table("value", "stage", "bytes", "line", title="What the stages leave for candidates")
    for value in explanation.left:
        left.add_row(value.name, value.stage, f"{value.bytes:,}", str(value.where))
    console.print(left)
    for coupling in explanation.couplings:
        console.print(f"Rows meet, so it is kept whole: {coupling}", markup=False, soft_wrap=True)
