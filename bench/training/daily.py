"""KuaiRand day by day: a model trained once, one retrained every day, and one that goes on from yesterday's.

    python -m bench.training.daily --seeds 0 1 2

The model that is judged on day D has trained on days up to D-2; D-1 is the validation day that every run needs.
Nothing is chosen on it: there is one epoch with one evaluation, and AUC is taken of logits, before calibration. On the
first day all three are one model. Going on (``TrainRequest.from_run``) restores weights and tables but no optimiser
state: each increment begins with fresh Adam moments and a learning rate that rises and falls anew; and a new key is
given a row only where the increment's own day holds it ``minimum_count`` times.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.accuracy import samples_by_date
from bench.common import WORK, Row, write
from bench.kuairand import sampled
from bowerbird.plan.block import Keys, Numbers
from bowerbird.training.batches.dataset import Labels, SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.code_version import code_version
from bowerbird.training.quality.bootstrap import RESAMPLES, Interval, auc_difference, auc_interval
from bowerbird.training.quality.held_out import score_range
from bowerbird.training.quality.metrics import Floats, auc
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.run_record import read_run
from bowerbird.training.trained import load_trained

FIRST, LAST = datetime.date(2022, 4, 29), datetime.date(2022, 5, 5)
MODEL = "dcnv2"
EMBEDDING = {"minimum_count": 20}
TRAINER = {"epochs": 1, "batch_size": 512}
WAYS = ("once", "retrained", "continued")
_NOTE = (
    f"{MODEL}, one epoch, batch {TRAINER['batch_size']}. peer: trained once; ratio: the difference to it. Means over "
    "the listed seeds; intervals are of the first and resample users. Each model has trained on days up to the second "
    "last before the judged one. Seconds are of the processor, one thread: reading, encoding and validation included. "
    "Increments restore weights and tables, not the optimiser's state."
)


@dataclass(frozen=True)
class Judged:
    """What the ways of training made of one day: logits by task, and CPU seconds, by way."""

    day: datetime.date
    logits: dict[str, dict[str, Floats]]
    seconds: dict[str, float]
    labels: Labels
    weight: Numbers
    user: Keys

    def auc(self, way: str, task: str) -> float:
        """Return the AUC of a way; samples with an unknown label are left out."""
        known = ~np.isnan(self.labels[task])
        return auc(self.labels[task][known], self.logits[way][task][known], self.weight[known].astype(np.float64))


def judged_days() -> list[datetime.date]:
    """Return the days that are judged, in order."""
    return [FIRST + datetime.timedelta(days) for days in range((LAST - FIRST).days + 1)]


def train(
    samples: SampleFolder, runs: Path, day: datetime.date, seed: int, from_run: str | None = None
) -> tuple[str, float]:
    """Train for a day, from the start or on the one latest day beyond ``from_run``; return the run and CPU seconds."""
    latest, validation = (str(day - datetime.timedelta(days)) for days in (2, 1))
    request = TrainRequest(
        samples=samples.folder,
        runs_folder=runs,
        model=MODEL,
        since=latest if from_run else None,
        until=latest,
        validation=validation,
        seed=seed,
        from_run=from_run,
        embedding=EMBEDDING,
        trainer=TRAINER,
        calibration="platt",
    )
    started = time.process_time()
    result = train_model(request)
    return result.record.id, time.process_time() - started


def follow(samples: SampleFolder, runs: Path, seed: int) -> list[Judged]:
    """Train and judge all days in all three ways."""
    run, seconds = train(samples, runs, FIRST, seed)
    latest = dict.fromkeys(WAYS, run)
    judged = [judge(samples, runs, latest, FIRST, dict.fromkeys(WAYS, seconds))]
    for day in judged_days()[1:]:
        latest["retrained"], again = train(samples, runs, day, seed)
        latest["continued"], more = train(samples, runs, day, seed, latest["continued"])
        judged.append(judge(samples, runs, latest, day, {"once": 0.0, "retrained": again, "continued": more}))
        shown = [f"{way} {judged[-1].auc(way, 'click'):.4f} {judged[-1].seconds[way]:.0f} s" for way in WAYS]
        print(seed, day, *shown, flush=True)
    return judged


def judge(
    samples: SampleFolder, runs: Path, latest: dict[str, str], day: datetime.date, seconds: dict[str, float]
) -> Judged:
    """Return how the latest run of each way scores a day."""
    logits: dict[str, dict[str, Floats]] = {}
    for way, run in latest.items():
        model = load_trained(runs / run, samples.plan, read_run(runs / run).settings)
        held = score_range(samples, DateRange(str(day), str(day)), model)
        logits[way] = dict(held.logits)
    return Judged(day, logits, seconds, held.labels, held.weight, held.user)


def rows_of_day(judged: list[Judged], task: str) -> list[Row]:
    """Return a day's rows of a task, given the day of each seed."""
    first = judged[0]
    label = first.labels[task]
    once = float(np.mean([one.auc("once", task) for one in judged]))
    rows = []
    for way in WAYS:
        values = [one.auc(way, task) for one in judged]
        notes = [
            f"seeds {' '.join(f'{value:.4f}' for value in values)}",
            f"95% {auc_interval(label, first.logits[way][task], first.weight, first.user)}",
        ]
        if way != "once":
            pair = (first.logits[way][task], first.logits["once"][task])
            notes.append(f"minus once {auc_difference(label, *pair, first.weight, first.user)}")
        notes.append(f"{np.mean([one.seconds[way] for one in judged]):.0f} s CPU")
        mean = float(np.mean(values))
        rows.append(Row(f"{first.day} {task} {way}", mean, "AUC", once, mean - once, note=", ".join(notes)))
    return rows


def rows_of_all(seeds: list[list[Judged]], task: str) -> list[Row]:
    """Return the days' mean AUC and whole cost of each way, without the first day, on which all are one model."""
    later = [judged[1:] for judged in seeds]
    once = _mean_auc(later, "once", task)
    rows = []
    for way in WAYS:
        mean = _mean_auc(later, way, task)
        spent = np.mean([sum(one.seconds[way] for one in judged) for judged in seeds])
        notes = [f"seeds {' '.join(f'{_mean_auc([judged], way, task):.4f}' for judged in later)}"]
        for other in WAYS[: WAYS.index(way)]:
            notes.append(f"minus {other} {mean_difference(later[0], way, other, task)}")
        notes.append(f"{spent:.0f} s CPU for all days")
        case = f"mean of {len(later[0])} days {task} {way}"
        rows.append(Row(case, mean, "AUC", once, mean - once, note=", ".join(notes)))
    return rows


def _mean_auc(seeds: list[list[Judged]], way: str, task: str) -> float:
    return float(np.mean([one.auc(way, task) for judged in seeds for one in judged]))


def mean_difference(days: list[Judged], way: str, other: str, task: str) -> Interval:
    """Return the mean over days of AUC(way) - AUC(other), with a 95% interval that resamples users over all days."""
    known, owner = np.unique(np.concatenate([one.user for one in days]), return_inverse=True)
    owners = np.split(owner, np.cumsum([len(one.user) for one in days])[:-1])
    random = np.random.default_rng(0)
    draws = [np.ones(len(known), np.int64)]
    users = len(known)
    draws += [np.bincount(random.integers(0, users, users), minlength=users) for _ in range(RESAMPLES)]
    found = [
        np.mean([_gain(day, way, other, task, draw[at]) for day, at in zip(days, owners, strict=True)])
        for draw in draws
    ]
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Interval(float(found[0]), float(low), float(high))


def _gain(day: Judged, way: str, other: str, task: str, times: npt.NDArray[np.int64]) -> float:
    drawn = replace(day, weight=day.weight * times.astype(np.float32))
    return drawn.auc(way, task) - drawn.auc(other, task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    samples = SampleFolder(samples_by_date(sampled()))
    seeds = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory(dir=WORK) as runs:
            seeds.append(follow(samples, Path(runs), seed))
    rows = []
    for task in samples.tasks:
        rows += rows_of_all(seeds, task.name)
        for judged in zip(*seeds, strict=True):
            rows += rows_of_day(list(judged), task.name)
    write("training_daily", rows, note=_NOTE, plan=samples.plan.fingerprint, code=code_version())


if __name__ == "__main__":
    main()
