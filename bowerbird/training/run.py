"""A training run from samples to a calibrated, measured model in a folder."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from bowerbird.bundles.calibrate import calibrations_to_json
from bowerbird.durable import write_atomically
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.models.own import label_of, model_files, pinned_name, read_model_files
from bowerbird.models.zoo import model_config
from bowerbird.plan.functions import function_files
from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded_size import machine_memory
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.open_source import encode_range, open_source
from bowerbird.training.batches.split import Split, choose_split
from bowerbird.training.batches.unseen import unseen_shares, unseen_warnings
from bowerbird.training.calibration.fit import check_method
from bowerbird.training.code_version import code_version, package_versions
from bowerbird.training.config import MODEL_DEFAULTS, plain, trainer_config
from bowerbird.training.initialise import start_linear_layers
from bowerbird.training.lightgbm_model import train_trees
from bowerbird.training.progress import Reporter, Silent
from bowerbird.training.quality.evaluate import reliability_of
from bowerbird.training.quality.held_out import read_range, score_range
from bowerbird.training.quality.plots import plot_run
from bowerbird.training.quality.report import Report
from bowerbird.training.run_record import (
    CALIBRATION_FILE,
    METRICS_FILE,
    PLAN_FILE,
    RunRecord,
    RunSettings,
    read_run,
    write_run,
)
from bowerbird.training.trained import (
    LIGHTGBM,
    Trained,
    TrainedBlend,
    TrainedNetwork,
    TrainedTrees,
    build_network,
    load_weights,
)
from bowerbird.training.trainer import FitResult, Trainer


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train. Dates are ``YYYY-MM-DD``, ``validation`` and ``test`` also ``FIRST:LAST``.

    ``options``, ``embedding`` and ``trainer`` override the model's, the tables' and the trainer's defaults.
    ``from_run`` starts from an earlier run's weights, model and tables; new keys get new rows. With ``trees``
    LightGBM is trained beside a network, and their mean logit is the answer. ``model`` may be a class of the user's
    own, ``module:Class``, which is looked for in ``code`` and among the installed packages. ``calibration`` forces one
    by name (see ``training/calibration/fit.py``). ``negative_rate`` is the share of negatives that the samples' source
    kept and that their weights do not know of.
    """

    samples: Path
    runs_folder: Path
    model: str = "din"
    since: str | None = None
    until: str | None = None
    validation: str | None = None
    test: str | None = None
    seed: int = 0
    from_run: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    embedding: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    trees: bool = False
    code: Path | None = None
    calibration: str = "auto"
    negative_rate: float = 1.0


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, record, and metrics by ``validation`` and, where given, ``test``."""

    folder: Path
    record: RunRecord
    metrics: dict[str, Report]


def train_model(request: TrainRequest, reporter: Reporter | None = None) -> TrainResult:
    """Start a run and train it to its end.

    Raises NotFoundError, CorruptionError or InputError for samples or settings that cannot be used.
    """
    samples = SampleFolder(request.samples)
    settings = _settings(request, samples)
    created = datetime.datetime.now(datetime.UTC)
    identifier = f"{created:%Y%m%d-%H%M%S}-{label_of(settings.model)}-{secrets.token_hex(2)}"
    folder = request.runs_folder / identifier
    moment = created.isoformat(timespec="seconds")
    record = RunRecord(identifier, settings, code_version(), moment, packages=package_versions())
    write_run(folder, record)
    for name, data in {**function_files(samples.plan), **model_files(settings.model)}.items():
        write_atomically(folder / name, data)
    write_atomically(folder / PLAN_FILE, samples.plan.to_json())
    follower = reporter or Silent()
    follower.say(f"run {identifier}; if it is interrupted, go on with --resume {identifier}")
    return _run(folder, record, samples, follower)


def resume_training(samples: Path, folder: Path, reporter: Reporter | None = None) -> TrainResult:
    """Go on with an interrupted run; the outcome is that of a run that was never interrupted.

    ``samples`` is the folder of sample datasets. Raises InputError when the samples have changed since.
    """
    record = read_run(folder)
    read_model_files(record.settings.model, folder)
    dataset = SampleFolder(samples / record.settings.samples)
    if dataset.sha256 != record.settings.samples_sha256:
        raise InputError(
            f"The samples {dataset.manifest.name!r} have changed since run {record.id} began.",
            "Start a new run with `bowerbird train`.",
        )
    return _run(folder, record, dataset, reporter or Silent())


def _settings(request: TrainRequest, samples: SampleFolder) -> RunSettings:
    split = choose_split(samples.days, request.since, request.until, request.validation, request.test)
    categories = samples.plan.of_kind("category")
    check_method(request.calibration, {feature.name: np.zeros(0, np.uint64) for feature in categories})
    base = RunSettings(
        model=request.model,
        samples=request.samples.name,
        samples_sha256=samples.sha256,
        plan=samples.plan.fingerprint,
        tasks=list(samples.tasks),
        split=split,
        seed=request.seed,
        from_run=request.from_run,
        trees=request.trees and request.model != LIGHTGBM,
        calibration=request.calibration,
        negative_rate=request.negative_rate,
    )
    if request.model == LIGHTGBM and request.from_run is None:
        return msgspec.structs.replace(base, options=dict(request.options))
    model, options, embedding = request.model, request.options, request.embedding
    if request.from_run is not None:
        model, options, embedding = _earlier(request, samples.plan)
    model = pinned_name(model, request.code)
    config = model_config(model, options)
    tables = {"dimension": config.dimension, **embedding}
    trainer = {"memory_bytes": machine_memory() // 2, **MODEL_DEFAULTS.get(model, {}), **request.trainer}
    return msgspec.structs.replace(
        base,
        model=model,
        options=plain(config),
        embedding=plain(_embedding_config(tables)),
        trainer=plain(trainer_config(trainer)),
    )


def _embedding_config(values: Mapping[str, Any]) -> EmbeddingCollection.Config:
    try:
        return msgspec.convert(dict(values), EmbeddingCollection.Config)
    except msgspec.ValidationError as error:
        raise InputError(f"An option of the embedding tables has a wrong value: {error}.") from error


def _earlier(request: TrainRequest, plan: Plan) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    folder = request.runs_folder / str(request.from_run)
    earlier = read_run(folder)
    if earlier.status != "done" or earlier.settings.model == LIGHTGBM:
        raise InputError(
            f"Run {earlier.id} ({earlier.settings.model}, {earlier.status}) cannot be continued from.",
            "Name a finished run of a PyTorch model.",
        )
    if Plan.from_json((folder / PLAN_FILE).read_bytes()).features != plan.features:
        raise InputError(
            f"The features have changed since run {earlier.id}.",
            "Train from the beginning, without --from-run.",
        )
    read_model_files(earlier.settings.model, folder)
    return earlier.settings.model, earlier.settings.options, earlier.settings.embedding


def _run(folder: Path, record: RunRecord, samples: SampleFolder, reporter: Reporter) -> TrainResult:
    started = time.perf_counter()
    settings = record.settings
    trained: Trained
    if settings.model == LIGHTGBM:
        trained = _train_trees(settings, settings.options, samples, reporter)
        done = record
    else:
        trained, fit = _train_network(folder, settings, samples, reporter)
        done = msgspec.structs.replace(record, precision=fit.precision, steps=fit.steps, best_step=fit.best_step)
    trained.save(folder)
    metrics = _measure(folder, settings, samples, trained)
    seconds = time.perf_counter() - started
    done = msgspec.structs.replace(done, status="done", seconds=round(seconds, 3))
    write_run(folder, done)
    return TrainResult(folder, done, metrics)


def _train_trees(
    settings: RunSettings, options: Mapping[str, Any], samples: SampleFolder, reporter: Reporter
) -> TrainedTrees:
    split = settings.split
    return train_trees(
        samples.plan,
        tuple(settings.tasks),
        read_range(samples, split.train),
        read_range(samples, split.validation),
        options,
        settings.seed,
        reporter,
    )


def _train_network(
    folder: Path, settings: RunSettings, samples: SampleFolder, reporter: Reporter
) -> tuple[Trained, FitResult]:
    split, config = settings.split, trainer_config(settings.trainer)
    torch.manual_seed(settings.seed)
    network = build_network(samples.plan, settings)
    if settings.from_run is not None:
        load_weights(network, folder.parent / settings.from_run)
    network.collection.admit(count_keys(samples.plan, samples.read_parts(split.train.since, split.train.until)))
    train = open_source(
        samples, split.train, network.collection, config.batch_size, settings.seed,
        shuffle=config.shuffle, placement=config.placement, memory_bytes=config.memory_bytes, ahead=config.ahead,
    )  # fmt: skip
    held = encode_range(samples, split.validation, network.collection)
    for warning in [*_skipped(samples, split), *unseen_warnings(unseen_shares(held))]:
        reporter.say(warning)
    if settings.from_run is None:
        network.model.fit_numbers(train.number_columns())
        if config.linear_start == "xavier_normal":
            start_linear_layers(network.model)
        if config.base_rate_start:
            network.model.fit_rates(train.base_rates())
    reporter.say(f"{len(train):,} samples to train on ({split.train}), {len(held):,} to validate")
    trainer = Trainer(
        network,
        train,
        held,
        config,
        folder,
        fingerprint=settings.fingerprint,
        reporter=reporter,
    )
    fit = trainer.fit()
    trained = TrainedNetwork(network)
    return TrainedBlend(trained, _train_trees(settings, {}, samples, reporter)) if settings.trees else trained, fit


def _skipped(samples: SampleFolder, split: Split) -> list[str]:
    empty = samples.empty_days(split.train.since, split.validation.until)
    return [f"There are no samples of {', '.join(empty)}: skipped."] if empty else []


def _measure(folder: Path, settings: RunSettings, samples: SampleFolder, trained: Trained) -> dict[str, Report]:
    split = settings.split
    held = score_range(samples, split.validation, trained, settings.negative_rate)
    calibrations = held.calibrations(settings.calibration)
    metrics = {"validation": held.report(calibrations)}
    if split.test is not None:
        held = score_range(samples, split.test, trained, settings.negative_rate)
        metrics["test"] = held.report(calibrations)
    write_atomically(folder / CALIBRATION_FILE, calibrations_to_json(calibrations))
    write_atomically(folder / METRICS_FILE, msgspec.json.format(msgspec.json.encode(metrics)))
    plot_run(folder, reliability_of(held, calibrations))
    return metrics
