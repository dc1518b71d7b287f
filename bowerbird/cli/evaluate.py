"""``bowerbird evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError
from bowerbird.training.batches.split import date_range
from bowerbird.training.quality.bootstrap import Interval
from bowerbird.training.quality.evaluate import EvaluationRequest, EvaluationResult, evaluate_run
from bowerbird.training.quality.importance import Importance
from bowerbird.training.quality.report import Report
from bowerbird.training.quality.slices import SliceReport
from bowerbird.training.run_record import latest_run
from bowerbird.training.tracking import track, tracking_settings

_MOST = 20
"""So many lines of a table are shown; the file has all."""


@click.command("evaluate")
@click.option("--run", "run", metavar="RUN", help="The run to judge (default: the latest finished one).")
@click.option("--on", "dates", metavar="DATE[:DATE]", help="Days to judge it on (default: its test days).")
@click.option("--importance", is_flag=True, help="What each feature is worth.")
@click.option("--slices", is_flag=True, help="Where the model is worst.")
@click.option("--plots", is_flag=True, help="Draw curves, reliability and importance.")
@click.option("--rows", default=20_000, show_default=True, help="Samples that --importance looks at.")
@click.option("--seed", default=0, show_default=True, help="Of the draws of --importance.")
@click.option("--track", "send", is_flag=True, help="Send the run and what was found to MLflow.")
@project_option
def evaluate_command(
    workspace: Workspace,
    run: str | None,
    dates: str | None,
    importance: bool,
    slices: bool,
    plots: bool,
    rows: int,
    seed: int,
    send: bool,
) -> None:
    """Judge a run on held-out days: metrics with intervals, slices, importance, pictures.

    Writes evaluation-DATES.json, and with --plots pictures, into the run's folder.
    """
    folder = workspace.runs_folder / (run or latest_run(workspace.runs_folder).id)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("scoring")
        result = evaluate_run(
            EvaluationRequest(
                run=folder,
                samples_folder=workspace.samples_folder,
                dates=date_range(dates, "--on") if dates else None,
                importance=importance,
                slices=slices,
                plots=plots,
                importance_rows=rows,
                seed=seed,
            ),
            lambda feature: bar.update(task, description=f"dealing out {feature} anew"),
        )
    _show(result)
    console.print(f"Written to {folder}: {', '.join(result.files)}", markup=False, soft_wrap=True)
    if send:
        _send(workspace, folder)


def _send(workspace: Workspace, folder: Path) -> None:
    tracking = tracking_settings(workspace)
    if tracking is None:
        raise InputError(
            "No MLflow is configured.", "Set MLFLOW_TRACKING_URI, or mlflow under [tracking] in bowerbird.toml."
        )
    identifier = track(folder, tracking)
    console.print(f"Sent to {tracking.address}, experiment {tracking.experiment}: run {identifier}", markup=False)


def _show(result: EvaluationResult) -> None:
    if not result.same_samples:
        console.print("The samples have been made again since the run was trained on them.")
    console.print(_metrics_table(result))
    for task, found in result.slices.items():
        console.print(_slices_table(task, found))
    for task, values in result.importance.items():
        console.print(_importance_table(task, values))


def _metrics_table(result: EvaluationResult) -> Table:
    table = Table("task", "calibration", "rows", "AUC", "GAUC", "log loss", "NE", "PCOC", "ECE")
    table.title = f"{result.run} on {result.dates}"
    for task, metrics in result.metrics.items():
        table.add_row(task, result.calibrations[task], *_metric_cells(metrics))
        conditional = metrics.get("conditional")
        if conditional is not None:
            table.add_row(f"{task} given {conditional['given']}", "", *_metric_cells(conditional))
    return table


def _metric_cells(metrics: Report) -> list[str]:
    return [
        f"{metrics['rows']:,}",
        str(Interval(metrics["auc"], metrics["auc_low"], metrics["auc_high"])),
        f"{metrics['gauc']:.4f}",
        f"{metrics['log_loss']:.4f}",
        f"{metrics['ne']:.4f}",
        f"{metrics['pcoc']:.3f}",
        f"{metrics['ece']:.4f}",
    ]


def _slices_table(task: str, found: SliceReport) -> Table | str:
    if not found.worst:
        return f"{task}: of {found.examined} slices none is worse than all samples beyond chance"
    table = Table("feature", "value", "rows", "users", "worse in", "AUC", "promised", "PCOC", "log loss", "chance")
    table.title = f"{task}: {len(found.worst)} findings in {found.examined} slices"
    for one in found.worst[:_MOST]:
        cells = [one.feature, one.value, f"{one.rows:,}", f"{one.users:,}", one.worse.upper()]
        cells += [str(one.auc), f"{one.promised_auc:.4f}", str(one.pcoc), str(one.log_loss), f"{one.chance:.1g}"]
        table.add_row(*cells)
    return table


def _importance_table(task: str, found: Sequence[Importance]) -> Table:
    table = Table("feature", "AUC lost", "log loss added", title=f"{task}: what dealing a feature out anew costs")
    for one in found[:_MOST]:
        table.add_row(one.feature, str(one.auc), str(one.log_loss))
    return table
