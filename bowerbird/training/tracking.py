"""Runs in MLflow, for those who keep them there: settings, metrics, curve and pictures of a finished run."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import MissingExtraError, StorageError
from bowerbird.training.curve import CURVE_FILE, read_curve
from bowerbird.training.quality.report import SCALARS, Report
from bowerbird.training.run_record import CALIBRATION_FILE, METRICS_FILE, PLAN_FILE, RUN_FILE, RunRecord, read_run

RUN_TAG = "bowerbird.run"
_FILES = (RUN_FILE, METRICS_FILE, CALIBRATION_FILE, PLAN_FILE, CURVE_FILE, "*.png", "evaluation-*.json")
_MOST_AT_ONCE = 100
"""MLflow's limit on parameters in one request."""
_LONGEST = 6000
"""MLflow's limit on the length of a parameter."""


@dataclass(frozen=True)
class Tracking:
    """Where runs are sent: MLflow's tracking address and the name of the experiment."""

    address: str
    experiment: str


def tracking_of(address: str, experiment: str) -> Tracking | None:
    """Return where runs are sent, or None where nothing says so: then nothing is sent and MLflow is not imported.

    The environment's MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME come before ``address`` and ``experiment``.
    """
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "") or address
    return Tracking(chosen, os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or experiment) if chosen else None


def tracking_settings(workspace: Workspace) -> Tracking | None:
    """Return where a project's runs are sent; None where neither environment nor settings say so."""
    tracking = workspace.settings.tracking
    return tracking_of(tracking.mlflow, tracking.experiment or workspace.project.name)


def track(folder: Path, tracking: Tracking) -> str:
    """Send a finished run to MLflow and return its id there; a run that was sent before gets its newer files only.

    Sent are the settings as parameters; the metrics of validation and test, and the curve by step; small files (run
    record, plan, calibrations, metrics, evaluations, pictures), but no weights. Raises MissingExtraError without
    mlflow and StorageError when it refuses: the run itself is not affected.
    """
    mlflow = _import_mlflow()
    record = read_run(folder)
    try:
        return _send(mlflow, folder, record, tracking)
    except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
        raise StorageError(
            f"Run {record.id} could not be sent to MLflow at {tracking.address}: {str(error).splitlines()[0]}.",
            f"The run itself is whole; send it later with `bowerbird evaluate --run {record.id} --track`.",
        ) from error


def _import_mlflow() -> ModuleType:
    """Return the mlflow module with its reports of usage to its makers off, unless the user wants them."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError(
            "mlflow is not installed.",
            "Install it with: pip install 'bowerbird[mlflow]', or unset MLFLOW_TRACKING_URI and tracking.mlflow.",
        ) from error
    module: ModuleType = mlflow
    return module


def _send(mlflow: ModuleType, folder: Path, record: RunRecord, tracking: Tracking) -> str:
    client = mlflow.MlflowClient(tracking_uri=tracking.address)
    experiment = _experiment(client, tracking)
    found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{record.id}'", max_results=1)
    identifier: str = found[0].info.run_id if found else _create(mlflow, client, experiment, folder, record)
    for pattern in _FILES:
        for file in sorted(folder.glob(pattern)):
            client.log_artifact(identifier, str(file))
    client.set_terminated(identifier, "FINISHED")
    return identifier


def _experiment(client: Any, tracking: Tracking) -> str:
    known = client.get_experiment_by_name(tracking.experiment)
    identifier: str = (
        known.experiment_id if known else client.create_experiment(tracking.experiment, _artefacts(tracking.address))
    )
    return identifier


def _artefacts(address: str) -> str | None:
    """Return where files go: beside a SQLite database; a server decides itself."""
    if not address.startswith("sqlite"):
        return None
    database = Path(make_url(address).database or "mlflow.db").resolve()
    return (database.parent / "mlflow-artefacts").as_uri()


def _create(mlflow: ModuleType, client: Any, experiment: str, folder: Path, record: RunRecord) -> str:
    started = round(datetime.datetime.fromisoformat(record.created).timestamp() * 1000)
    tags = {RUN_TAG: record.id, "bowerbird.code": record.code, "bowerbird.notes": "\n".join(record.notes)}
    tags |= {f"package.{name}": version for name, version in record.packages.items()}
    run = client.create_run(experiment, start_time=started, tags=tags, run_name=record.id)
    identifier: str = run.info.run_id
    entities = mlflow.entities
    parameters = [entities.Param(name, value[:_LONGEST]) for name, value in _parameters(record)]
    for start in range(0, len(parameters), _MOST_AT_ONCE):
        client.log_batch(identifier, params=parameters[start : start + _MOST_AT_ONCE])
    metrics = [entities.Metric(name, value, started, step) for name, value, step in _metrics(folder, record)]
    for start in range(0, len(metrics), _MOST_AT_ONCE):
        client.log_batch(identifier, metrics=metrics[start : start + _MOST_AT_ONCE])
    return identifier


def _parameters(record: RunRecord) -> Iterator[tuple[str, str]]:
    settings: dict[str, Any] = msgspec.to_builtins(record.settings)
    yield from _flat("", settings)
    yield "precision", record.precision


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _metrics(folder: Path, record: RunRecord) -> Iterator[tuple[str, float, int]]:
    """Yield finite metrics by name, with the training step that they belong to."""
    report: dict[str, Report] = msgspec.json.decode((folder / METRICS_FILE).read_bytes())
    every = [
        (f"{part}.{task}", values, record.steps) for part, tasks in report.items() for task, values in tasks.items()
    ]
    every += [
        (f"{name}.given_{values['conditional']['given']}", values["conditional"], step)
        for name, values, step in every
        if "conditional" in values
    ]
    for evaluation in read_curve(folder):
        every.append(("curve", {"loss": evaluation.loss, "rate": evaluation.rate}, evaluation.step))
        every += [(f"curve.{task}", values, evaluation.step) for task, values in evaluation.metrics.items()]
    for prefix, values, step in every:
        for name, value in values.items():
            known = name in SCALARS or prefix == "curve"
            if known and isinstance(value, int | float) and math.isfinite(value):
                yield f"{prefix}.{name}", float(value), step
