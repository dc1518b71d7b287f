"""A finished run judged on days of the user's choice: metrics, slices, importance, pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bowerbird.bundles.calibrate import Calibrations, calibrations_from_json, logistic
from bowerbird.durable import write_atomically
from bowerbird.errors import InputError
from bowerbird.plan.functions import read_function_files
from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import SampleFolder, SampleRows
from bowerbird.training.batches.down_sampling import population_weight
from bowerbird.training.batches.drawn import draw_samples
from bowerbird.training.batches.split import DateRange
from bowerbird.training.quality.held_out import HeldOut, held_out, read_range, score_rows
from bowerbird.training.quality.importance import (
    BlockColumns,
    Columns,
    EncodedColumns,
    Importance,
    permutation_importance,
)
from bowerbird.training.quality.plots import (
    IMPORTANCE_FILE,
    RELIABILITY_FILE,
    plot_curves_of,
    plot_importance,
    plot_reliability,
)
from bowerbird.training.quality.reliability import ReliabilityBin, reliability
from bowerbird.training.quality.report import Report
from bowerbird.training.quality.slices import (
    SliceReport,
    activity_columns,
    category_column,
    number_column,
    worst_slices,
)
from bowerbird.training.run_record import CALIBRATION_FILE, PLAN_FILE, RunRecord, read_run
from bowerbird.training.trained import Trained, TrainedNetwork, load_trained


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Which run to judge on which days; without ``dates`` its test days, or else its validation days.

    ``importance_rows`` limits the samples that features are dealt out over, drawn with ``seed``.
    """

    run: Path
    samples_folder: Path
    dates: DateRange | None = None
    importance: bool = False
    slices: bool = False
    plots: bool = False
    importance_rows: int = 20_000
    seed: int = 0


class EvaluationResult(msgspec.Struct, frozen=True):
    """What was found, as written to ``evaluation-DATES.json`` in the run's folder.

    ``calibrations`` names each task's kind of calibration, ``files`` what was written, itself first. ``same_samples``
    says whether the samples are those that the run was trained on, to the byte.
    """

    run: str
    dates: str
    samples_sha256: str
    same_samples: bool
    calibrations: dict[str, str]
    metrics: Report
    reliability: dict[str, dict[str, list[ReliabilityBin]]]
    slices: dict[str, SliceReport] = {}
    importance: dict[str, list[Importance]] = {}
    files: list[str] = []


def evaluate_run(request: EvaluationRequest, follow: Callable[[str], None] = lambda _: None) -> EvaluationResult:
    """Judge a finished run and write what was found into its folder; ``follow`` hears what is being looked at.

    Raises NotFoundError without the run or samples, InputError for a run that is not finished, for other features
    than it was trained on, and for days without samples.
    """
    record = read_run(request.run)
    if record.status != "done":
        raise InputError(f"Run {record.id} is not finished.", f"Finish it with --resume {record.id}.")
    samples = _samples(request, record)
    trained = load_trained(request.run, samples.plan, record.settings)
    calibrations = calibrations_from_json((request.run / CALIBRATION_FILE).read_bytes())
    dates = request.dates or record.settings.split.test or record.settings.split.validation
    rows = read_range(samples, dates)
    held = held_out(samples, rows, score_rows(rows, trained), record.settings.negative_rate)
    result = EvaluationResult(
        run=record.id,
        dates=str(dates),
        samples_sha256=samples.sha256,
        same_samples=samples.sha256 == record.settings.samples_sha256,
        calibrations={task: _kind(calibration) for task, calibration in calibrations.items()},
        metrics=held.report(calibrations),
        reliability=reliability_of(held, calibrations),
        slices=_slices(held, calibrations, rows) if request.slices else {},
        importance=_importance(request, record, trained, calibrations, rows, follow) if request.importance else {},
    )
    return _write(request, result)


def reliability_of(held: HeldOut, calibrations: Calibrations) -> dict[str, dict[str, list[ReliabilityBin]]]:
    """Return by task the reliability of the model's own probabilities and of the calibrated ones."""
    scores = held.scores(calibrations)
    return {
        task: {
            name: reliability(held.labels[task], score, held.weight, held.user)
            for name, score in (("as trained", logistic(logits.astype(np.float64))), ("calibrated", scores[task]))
        }
        for task, logits in held.logits.items()
    }


def _kind(calibration: Any) -> str:
    field = getattr(calibration, "field", "")
    kind: str = calibration.__struct_config__.tag
    return f"{kind.removesuffix('_by_field')}:{field}" if field else kind


def _samples(request: EvaluationRequest, record: RunRecord) -> SampleFolder:
    samples = SampleFolder(request.samples_folder / record.settings.samples)
    plan = Plan.from_json((request.run / PLAN_FILE).read_bytes())
    read_function_files(plan, request.run)
    if samples.plan.features != plan.features:
        raise InputError(
            f"The samples {record.settings.samples!r} have other features than run {record.id} was trained on.",
            "Make samples with the plan of the run, or train again on the present ones.",
        )
    return samples


def _slices(held: HeldOut, calibrations: Calibrations, rows: list[SampleRows]) -> dict[str, SliceReport]:
    columns = {name: category_column(keys) for name, keys in held.categories.items()}
    for name in rows[0].block.numbers:
        columns[name] = number_column(np.concatenate([part.block.numbers[name] for part in rows]))
    columns |= activity_columns(held.user, np.concatenate([part.time for part in rows]))
    return {
        task: worst_slices(held.labels[task], score, held.weight, held.user, columns)
        for task, score in held.scores(calibrations).items()
    }


def _importance(
    request: EvaluationRequest,
    record: RunRecord,
    trained: Trained,
    calibrations: Calibrations,
    rows: list[SampleRows],
    follow: Callable[[str], None],
) -> dict[str, list[Importance]]:
    drawn = draw_samples(rows, request.importance_rows, request.seed)
    columns: Columns
    if isinstance(trained, TrainedNetwork):
        columns = EncodedColumns(trained.network, drawn.block)
    else:
        columns = BlockColumns(trained, drawn.block, len(drawn))
    weight = population_weight(drawn.labels, drawn.weight, record.settings.negative_rate)
    return permutation_importance(columns, drawn, weight, calibrations, seed=request.seed, follow=follow)


def _write(request: EvaluationRequest, result: EvaluationResult) -> EvaluationResult:
    """Write the pictures asked for and then the result, which names them."""
    name = f"evaluation-{result.dates.replace(':', '_')}"
    files = []
    if request.plots:
        files = [
            plot_curves_of(request.run),
            plot_reliability(request.run / f"{name}.{RELIABILITY_FILE}", result.reliability),
        ]
        if result.importance:
            files.append(plot_importance(request.run / f"{name}.{IMPORTANCE_FILE}", result.importance))
    target = request.run / f"{name}.json"
    names = [file.name for file in files if file is not None]
    written = msgspec.structs.replace(result, files=[target.name, *names])
    write_atomically(target, msgspec.json.format(msgspec.json.encode(written)))
    return written
