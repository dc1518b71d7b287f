"""``bowerbird train`` and ``bowerbird publish``."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from bowerbird.bundles.gates import shown
from bowerbird.bundles.manifest import GateResult
from bowerbird.bundles.way_results import WayResult
from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.embedding.served_table import ROW_FORMATS, RowFormat
from bowerbird.errors import InputError
from bowerbird.models.zoo import MODELS
from bowerbird.training.progress import Terminal
from bowerbird.training.publishing.publish import PublishRequest, PublishResult
from bowerbird.training.publishing.publish import publish as publish_run
from bowerbird.training.run import TrainRequest, TrainResult, resume_training, train_model
from bowerbird.training.run_record import latest_run
from bowerbird.training.tracking import track, tracking_settings
from bowerbird.training.trained import LIGHTGBM

_SECTIONS = ("model", "embedding", "trainer")


@click.command("train")
@click.option(
    "--model",
    default="din",
    show_default=True,
    metavar="MODEL",
    help=f"One of {', '.join([*MODELS, LIGHTGBM])}, or a class of your own, module:Class.",
)
@click.option("--samples", default="default", show_default=True, help="Name of the sample dataset.")
@click.option("--since", metavar="DATE", help="First day to train on.")
@click.option("--until", metavar="DATE", help="Last day to train on (default: the day before validation).")
@click.option("--validation", metavar="DATE[:DATE]", help="Days that choose and calibrate (default: the latest).")
@click.option("--test", metavar="DATE[:DATE]", help="Days that are only looked at.")
@click.option("--seed", default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Most passes over the training samples.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="SECTION.NAME=VALUE",
    help="Any option of model, embedding or trainer.",
)
@click.option("--with-trees", is_flag=True, help="Train LightGBM, too, and answer with the mean of both logits.")
@click.option(
    "--calibration",
    default="auto",
    show_default=True,
    help="auto, identity, shift, platt, isotonic, monotone, platt:FIELD or monotone:FIELD.",
)
@click.option(
    "--negative-rate",
    default=1.0,
    show_default=True,
    help="Share of negatives that the source kept, where samples' weights do not say so.",
)
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run.")
@click.option("--from-run", metavar="RUN", help="Start from a finished run's model and weights.")
@project_option
def train(
    workspace: Workspace,
    model: str,
    samples: str,
    since: str | None,
    until: str | None,
    validation: str | None,
    test: str | None,
    seed: int,
    epochs: int | None,
    options: tuple[str, ...],
    with_trees: bool,
    calibration: str,
    negative_rate: float,
    resume: str | None,
    from_run: str | None,
) -> None:
    """Train a model on samples, calibrate it on validation, and measure it."""
    with Terminal(console) as terminal:
        if resume is not None:
            result = resume_training(workspace.samples_folder, workspace.runs_folder / resume, terminal)
        else:
            sections = parse_options(options)
            if epochs is not None:
                sections["trainer"]["epochs"] = epochs
            result = train_model(
                TrainRequest(
                    samples=workspace.samples_folder / samples,
                    runs_folder=workspace.runs_folder,
                    model=model,
                    since=since,
                    until=until,
                    validation=validation,
                    test=test,
                    seed=seed,
                    from_run=from_run,
                    options=sections["model"],
                    embedding=sections["embedding"],
                    trainer=sections["trainer"],
                    trees=with_trees,
                    calibration=calibration,
                    negative_rate=negative_rate,
                    code=workspace.folder,
                ),
                terminal,
            )
    tracking = tracking_settings(workspace)
    if tracking is not None:
        track(result.folder, tracking)
    _show_run(result)


@click.command("publish")
@click.option("--run", "run", metavar="RUN", help="The run to publish (default: the latest finished one).")
@click.option("--name", help="The model's name (default: the project's).")
@click.option("--promote", is_flag=True, help="Make the version live at once.")
@click.option("--force", is_flag=True, help="Publish although a gate fails; this is recorded.")
@click.option(
    "--rows", type=click.Choice(ROW_FORMATS), default="fp32", help="How embedding rows are kept; fewer bits are gated."
)
@project_option
def publish(
    workspace: Workspace, run: str | None, name: str | None, promote: bool, force: bool, rows: RowFormat
) -> None:
    """Gate a run, write its bundle and record the version."""
    chosen = run or latest_run(workspace.runs_folder).id
    result = publish_run(
        PublishRequest(
            run=workspace.runs_folder / chosen,
            samples_folder=workspace.samples_folder,
            bundles_folder=workspace.bundles_folder,
            registry_url=workspace.registry_url,
            name=name or workspace.project.name,
            promote=promote,
            force=force,
            rows=rows,
        )
    )
    _show_version(result)


def parse_options(options: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return ``section.name=value`` options by section; values are JSON, or else text."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for text in options:
        key, equals, value = text.partition("=")
        section, _, name = key.partition(".")
        if not equals or not name or section not in sections:
            raise InputError(
                f"Option {text!r} cannot be read.",
                f"Write SECTION.NAME=VALUE with a section of {', '.join(_SECTIONS)}, as in trainer.epochs=3.",
            )
        sections[section][name] = _value(value)
    return sections


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _show_run(result: TrainResult) -> None:
    for part, tasks in result.metrics.items():
        for task, values in tasks.items():
            console.print(
                f"{part:<11}{task}: AUC {values['auc']:.4f} [{values['auc_low']:.4f}, {values['auc_high']:.4f}]  "
                f"GAUC {values['gauc']:.4f}  log loss {values['log_loss']:.4f}  NE {values['ne']:.4f}  "
                f"PCOC {values['pcoc']:.3f}  ECE {values['ece']:.4f}",
                markup=False,
                soft_wrap=True,
            )
    console.print(f"run {result.record.id} in {result.record.seconds:.0f} s; next: bowerbird publish --promote")


def _show_version(result: PublishResult) -> None:
    for gate in result.gates:
        console.print(_gate_line(gate), markup=False, soft_wrap=True)
    for way in result.bundle.manifest.ways:
        console.print(_way_line(way), markup=False, soft_wrap=True)
    version = result.version
    console.print(f"{version.name} {version.version} is {version.stage}, digest {version.digest[:12]}")


def _way_line(way: WayResult) -> str:
    tasks = "; ".join(
        f"{each.task}: AUC {each.auc}, mean {each.calibration}, rank agreement {each.kendall:.4f}, "
        f"probabilities within {each.largest:.1e}"
        for each in way.tasks
    )
    if way.passed:
        return f"may be served by {way.name}: {tasks}"
    return f"may NOT be served by {way.name}, for {way.note}{f' ({tasks})' if tasks else ''}"


def _gate_line(gate: GateResult) -> str:
    mark = "passed" if gate.passed else "FAILED"
    note = f" ({gate.note})" if gate.note else ""
    return f"{mark}  {gate.name}: {shown(gate)}, allowed {gate.allowed}{note}"
