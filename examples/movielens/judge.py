"""Judges what was served beside baselines, all on the same live ratings, which none of them had seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from player import LABEL, Prediction

from bowerbird.bundles.calibrate import calibrate, calibrations_from_json
from bowerbird.declare.workspace import Workspace
from bowerbird.kernels.keys import key_integer
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.block_rows import take_rows
from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import SampleFolder, SampleRows
from bowerbird.training.quality.bootstrap import auc_interval
from bowerbird.training.quality.metrics import auc, log_loss, pcoc
from bowerbird.training.run_record import CALIBRATION_FILE, PLAN_FILE, read_run
from bowerbird.training.trained import Trained, load_trained

Floats = npt.NDArray[np.float64]

_GROUPS = 10
_SEED = 0

QUESTIONS: dict[str, tuple[str, ...]] = {
    "How good is the movie?": ("movie", "movie_like_rate", "movie_like_rate_30d", "movie_like_rate_lately",
                               "movie_mean", "movie_ratings", "movie_ratings_7d", "movie_since", "above_user"),
    "How generous is the user?": ("user", "user_like_rate", "user_like_rate_lately", "user_mean", "user_ratings",
                                  "user_ratings_1h", "user_since", "above_user"),
    "What do people like the user think of it?": ("gender_movie_rate", "age_movie_rate", "occupation_movie_rate",
                                                  "occupation_genre_rate", "age_genre_rate"),
    "What does the user think of its kind?": ("user_genre_rate", "user_genre2_rate", "user_decade_rate",
                                              "user_genre_ratings", "user_genre_mean"),
    "Which movies did the user like last?": ("liked", "disliked", "liked_genre", "liked_genre_count", "liked_decade",
                                             "disliked_genre"),
    "Who is the user?": ("age", "age_group", "gender", "occupation", "gender_genre"),
    "What is the movie?": ("genre", "genre2", "decade", "year", "genre_like_rate", "gender_genre"),
    "What time is it?": ("hour", "weekday"),
}  # fmt: skip
"""What the features ask, for people; a feature may serve several questions."""


@dataclass(frozen=True)
class Contestant:
    """Somebody's scores of the live ratings, and how good they are.

    ``calibration`` has, for equal groups by score, (mean score, share of likes).
    """

    name: str
    scores: Floats
    auc: float
    low: float
    high: float
    log_loss: float
    pcoc: float
    calibration: list[tuple[float, float]]


@dataclass(frozen=True)
class Judgement:
    """Every contestant, worst first and what was served last, with the ratings' times (seconds) and labels.

    ``questions`` says what each one is worth in AUC.
    """

    contestants: list[Contestant]
    times: Floats
    labels: Floats
    questions: list[tuple[str, float]]

    def of(self, name: str) -> Contestant:
        """Return a contestant by name."""
        return next(one for one in self.contestants if one.name == name)


def judge(
    workspace: Workspace, samples: str, since: str, runs: Mapping[str, str], served: Sequence[Prediction], name: str
) -> Judgement:
    """Compare what was served (called ``name``) with training runs (name to id) and with simple averages."""
    folder = SampleFolder(workspace.samples_folder / samples)
    rows = list(folder.read(since, "9999-12-31"))
    live = _Live(rows, served)
    scores: dict[str, Floats] = {
        "one answer for all": np.full(len(live.labels), _history_rate(folder, since)),
        "the movie's average": live.number("movie_like_rate"),
        "movie's and user's": _combined(live),
    }
    models = {title: _Model(workspace.runs_folder / run) for title, run in runs.items()}
    scores |= {title: live.join([model.scores(part.block) for part in rows]) for title, model in models.items()}
    others = [_contestant(title, values, live) for title, values in scores.items()]
    contestants = [*sorted(others, key=lambda one: one.auc), _contestant(name, live.served, live)]
    questions = _worth(next(iter(models.values())), rows, live)
    return Judgement(contestants, live.times, live.labels, questions)


class _Live:
    """The mature live samples in time order, and what was served for them."""

    def __init__(self, rows: Sequence[SampleRows], served: Sequence[Prediction]) -> None:
        self._rows = rows
        by_key = {(key_integer(one.rating.user), key_integer(one.rating.movie)): one.score for one in served}
        users, items = (np.concatenate([getattr(part, name) for part in rows]) for name in ("user", "item"))
        labels = np.concatenate([part.labels[LABEL] for part in rows]).astype(np.float64)
        scores = np.array([by_key.get((int(user), int(item)), np.nan) for user, item in zip(users, items, strict=True)])
        times = np.concatenate([part.time for part in rows]) / 1e6
        self._kept = np.flatnonzero(~np.isnan(labels) & ~np.isnan(scores))
        self._kept = self._kept[np.argsort(times[self._kept], kind="stable")]
        self.labels, self.served, self.times = labels[self._kept], scores[self._kept], times[self._kept]
        self.users = users[self._kept]

    def join(self, parts: Iterable[npt.NDArray[np.floating]]) -> Floats:
        """Return values of all samples as those of the mature ones, in time order."""
        return np.concatenate(list(parts))[self._kept].astype(np.float64)

    def number(self, name: str) -> Floats:
        """Return a feature."""
        return self.join([part.block.numbers[name] for part in self._rows])


class _Model:
    """A finished training run that scores samples."""

    def __init__(self, folder: Path) -> None:
        plan = Plan.from_json((folder / PLAN_FILE).read_bytes())
        self._trained: Trained = load_trained(folder, plan, read_run(folder).settings)
        self._calibrations = calibrations_from_json((folder / CALIBRATION_FILE).read_bytes())

    def scores(self, block: FeatureBlock) -> Floats:
        """Return calibrated probabilities of a like."""
        return calibrate(self._calibrations[LABEL], self._trained.logits(block)[LABEL])


def _history_rate(folder: SampleFolder, since: str) -> float:
    """Return the share of likes before the live ratings."""
    labels = np.concatenate([part.labels[LABEL] for part in folder.read("0000-01-01", since) if len(part)])
    return float(np.nanmean(labels))


def _combined(live: _Live) -> Floats:
    """Return the mean of the movie's and the user's shares of likes."""
    return 0.5 * (live.number("movie_like_rate") + live.number("user_like_rate"))


def _contestant(name: str, scores: Floats, live: _Live) -> Contestant:
    weight = np.ones(len(scores))
    interval = auc_interval(live.labels, scores, weight, live.users)
    return Contestant(
        name,
        scores,
        interval.estimate,
        interval.low,
        interval.high,
        log_loss(live.labels, scores, weight),
        pcoc(live.labels, scores, weight),
        _calibration(scores, live.labels),
    )


def _calibration(scores: Floats, labels: Floats) -> list[tuple[float, float]]:
    groups = np.array_split(np.argsort(scores, kind="stable"), _GROUPS)
    return [(float(scores[group].mean()), float(labels[group].mean())) for group in groups if len(group)]


def running_auc(contestant: Contestant, judgement: Judgement, points: int = 60) -> tuple[list[float], list[float]]:
    """Return (times, AUC of everything until then), from a tenth of the ratings on."""
    ends = np.linspace(len(judgement.labels) // 10, len(judgement.labels), points).astype(int)
    ones = np.ones(len(judgement.labels))
    areas = [auc(judgement.labels[:end], contestant.scores[:end], ones[:end]) for end in ends]
    return [float(judgement.times[end - 1]) for end in ends], areas


def _worth(model: _Model, rows: Sequence[SampleRows], live: _Live) -> list[tuple[str, float]]:
    """Return by how much the AUC falls when the features behind each question are shuffled; most first."""
    ones = np.ones(len(live.labels))
    whole = auc(live.labels, live.join([model.scores(part.block) for part in rows]), ones)
    random = np.random.default_rng(_SEED)
    worth = []
    for question, names in QUESTIONS.items():
        parts = [model.scores(_shuffled(part.block, len(part), names, random)) for part in rows]
        worth.append((question, whole - auc(live.labels, live.join(parts), ones)))
    return sorted(worth, key=lambda pair: -pair[1])


def _shuffled(block: FeatureBlock, rows: int, names: Sequence[str], random: np.random.Generator) -> FeatureBlock:
    other = take_rows(block, random.permutation(rows))
    return FeatureBlock(
        {name: (other if name in names else block).categories[name] for name in block.categories},
        {name: (other if name in names else block).numbers[name] for name in block.numbers},
        {name: (other if name in names else block).sequences[name] for name in block.sequences},
        block.lsn,
    )
