"""The training loop: steps, evaluations, early stopping, checkpoints, and nothing else."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bowerbird.bundles.arrays import AnyArray
from bowerbird.bundles.calibrate import logistic
from bowerbird.errors import CorruptionError, InputError
from bowerbird.training.allocator import keep_freed_memory
from bowerbird.training.averaging import WeightAverage
from bowerbird.training.batches.encoded import Batch, EncodedSamples
from bowerbird.training.batches.faulty_batch import faulty_values, save_faulty_batch
from bowerbird.training.batches.source import BatchSource
from bowerbird.training.batches.targets import targets_of
from bowerbird.training.checkpoint import (
    Checkpoint,
    LoopState,
    load_checkpoint,
    load_optimiser,
    optimiser_arrays,
    save_checkpoint,
)
from bowerbird.training.clipping import clip_gradients
from bowerbird.training.config import TrainerConfig
from bowerbird.training.curve import Curve, Evaluation
from bowerbird.training.network import Network
from bowerbird.training.optimisers import add_l2, build_optimiser, learning_rate_factor, set_learning_rate
from bowerbird.training.precision import autocast, choose_precision
from bowerbird.training.progress import Reporter, Silent
from bowerbird.training.quality.metrics import auc, log_loss
from bowerbird.training.table_files import TableFiles


@dataclass(frozen=True)
class FitResult:
    """How training ended: the best value of the watched metric, its step, all steps and the arithmetic."""

    best: float
    best_step: int
    steps: int
    precision: str


class Trainer:
    """Trains a network on batches of a source and leaves the best weights in it.

    A checkpoint in ``folder`` is resumed, bit for bit: weights, averages, optimisers, random state, data
    order and early stopping. ``fingerprint`` says what is being trained; a checkpoint of something else is
    refused with a CorruptionError.
    """

    def __init__(
        self,
        network: Network,
        train: BatchSource,
        validation: EncodedSamples,
        config: TrainerConfig,
        folder: Path,
        *,
        fingerprint: str = "",
        reporter: Reporter | None = None,
    ) -> None:
        self.network = network
        self.train = train
        self.validation = validation
        self.config = config
        self.folder = folder
        self.reporter = reporter or Silent()
        self.steps_per_epoch = train.steps_per_epoch
        self.steps = self.steps_per_epoch * config.epochs
        self.optimiser = build_optimiser(network, config)
        self._parameters = list(network.parameters())
        self.average = WeightAverage(network, config.average)
        self.tables = TableFiles(folder, network.collection)
        self.best: dict[str, AnyArray] = {}
        self.state = LoopState(fingerprint, "")

    def fit(self) -> FitResult:
        """Train to the end or to early stopping; raises InputError when the loss is not finite."""
        keep_freed_memory()
        self._restore()
        curve = Curve(self.folder, self.state.step)
        self.reporter.start(self.steps, self.state.step)
        while self.state.step < self.steps and not self.state.finished:
            self._run_epoch(curve)
        if self.best:
            self.network.load_arrays(self.best)
            self.tables.load(self.state.best_step)
        self.network.eval()
        best = float("nan") if self.state.best is None else self.state.best
        return FitResult(best, self.state.best_step, self.state.step, self.state.precision)

    def _run_epoch(self, curve: Curve) -> None:
        epoch, first = divmod(self.state.step, self.steps_per_epoch)
        self.network.train()
        with contextlib.closing(self.train.batches(epoch, first)) as batches:
            started, done = time.perf_counter(), 0
            for batch in batches:
                loss = self._step(batch)
                done += len(batch)
                rate = done / (time.perf_counter() - started)
                self.reporter.advance(self.state.step, loss, rate)
                self._after_step(curve, rate)
                if self.state.finished:
                    return

    def _after_step(self, curve: Curve, rate: float) -> None:
        if self._evaluation_is_due():
            curve.append(self._evaluate(rate))
            self._save()
        elif self.state.step % self.config.checkpoint_steps == 0:
            self._save()

    def _step(self, batch: Batch) -> float:
        state = self.state
        rate = self._rate()
        set_learning_rate(self.optimiser, rate)
        with autocast(state.precision):
            done = self.network(batch.rows)
        loss = self.network.loss(done, targets_of(batch))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._not_finite(value, batch)
        self._forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        add_l2(self.network, self.config)
        clip_gradients(self._parameters, self.config.clip_norm)
        self.optimiser.step()
        self.network.collection.step(rate, rate / self.config.learning_rate)
        self.average.update(state.step)
        state.step += 1
        state.loss_sum += value
        state.loss_steps += 1
        return value

    def _forget_gradients(self) -> None:
        for each in self._parameters:
            each.grad = None
        self.network.collection.forget_gradients()

    def _rate(self) -> float:
        """Return the learning rate of the present step."""
        config = self.config
        planned = config.learning_rate * learning_rate_factor(config, self.state.step, self.steps)
        if config.schedule == "plateau":
            return max(planned * config.plateau_factor**self.state.plateaus, min(config.least_rate, planned))
        return planned

    def _evaluation_is_due(self) -> bool:
        within = (self.state.step - 1) % self.steps_per_epoch + 1
        every = max(1, self.steps_per_epoch // self.config.evaluations_per_epoch)
        return within == self.steps_per_epoch or (within % every == 0 and self.steps_per_epoch - within >= every)

    def _evaluate(self, rate: float) -> Evaluation:
        state = self.state
        with self.average.applied():
            metrics = self._validation_metrics()
            value = float(np.mean([values[self.config.metric] for values in metrics.values()]))
            better = state.best is None or (value > state.best if self.config.metric == "auc" else value < state.best)
            if better:
                self.best = self.network.arrays()
                self.tables.save(state.step)
        if better:
            state.best, state.best_step, state.unimproved = value, state.step, 0
        else:
            state.unimproved += 1
            state.plateaus += 1
            state.finished = state.unimproved >= self.config.patience
        evaluation = Evaluation(
            step=state.step,
            epoch=state.step / self.steps_per_epoch,
            loss=state.loss_sum / max(state.loss_steps, 1),
            value=value,
            metrics=metrics,
            learning_rate=self._rate(),
            rate=rate,
        )
        state.loss_sum, state.loss_steps = 0.0, 0
        self.reporter.evaluated(evaluation)
        return evaluation

    def _validation_metrics(self) -> dict[str, dict[str, float]]:
        metrics = {}
        weight = self.validation.weight.astype(np.float64)
        for task, logits in self.network.logits(self.validation).items():
            label = self.validation.labels[task]
            mature = ~np.isnan(label)
            score = logistic(logits[mature].astype(np.float64))
            args = (label[mature].astype(np.float64), score, weight[mature])
            metrics[task] = {"auc": auc(*args), "log_loss": log_loss(*args)}
        return metrics

    def _save(self) -> None:
        self.tables.save(self.state.step)
        groups = {
            "weights": self.network.views(),
            "average": self.average.arrays(),
            "optimiser": optimiser_arrays(self.optimiser),
            "best": self.best,
        }
        save_checkpoint(self.folder, Checkpoint(self.state, groups))
        self.tables.keep(self.state.step, self.state.best_step)

    def _restore(self) -> None:
        checkpoint = load_checkpoint(self.folder)
        if checkpoint is None:
            with contextlib.closing(self.train.batches(0)) as batches:
                first = next(batches)
            self.state.precision = choose_precision(self.network, first, self.config.precision)
            return
        if checkpoint.warning:
            self.reporter.say(checkpoint.warning)
        if checkpoint.state.fingerprint != self.state.fingerprint:
            raise CorruptionError(
                f"The checkpoint in {self.folder} is of {checkpoint.state.fingerprint!r}, "
                f"not of {self.state.fingerprint!r}.",
                "Resume with the same samples and options, or start a new run.",
            )
        self.network.load_arrays(checkpoint.groups["weights"])
        self.average.load_arrays(checkpoint.groups["average"])
        load_optimiser(self.optimiser, checkpoint.groups["optimiser"])
        self.tables.load(checkpoint.state.step)
        self.best = checkpoint.groups.get("best", {})
        self.state = checkpoint.state

    def _not_finite(self, value: float, batch: Batch) -> InputError:
        epoch, within = divmod(self.state.step, self.steps_per_epoch)
        causes = faulty_values(batch) or self._broken_inputs(batch)
        file = save_faulty_batch(self.folder, batch, self.state.step)
        return InputError(
            f"The loss became {value} in epoch {epoch}, batch {within}: "
            f"{'; '.join(causes) if causes else 'no feature is to blame'}. The batch is in {file}.",
            "Clip or repair what is named." if causes else "Lower learning_rate, or raise warmup_steps.",
        )

    def _broken_inputs(self, batch: Batch) -> list[str]:
        collection = self.network.collection
        features = collection(batch.rows)
        sequences = collection.inputs.sequences
        embedded = [*collection.inputs.categories, *(item for one in sequences for item in one.categories)]
        broken = [item.name for item in embedded if not bool(features[item.name].isfinite().all())]
        return [f"feature {name!r} has a table row that is not finite" for name in broken]
