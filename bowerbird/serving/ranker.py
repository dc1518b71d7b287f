"""From a request to calibrated scores: read features, lay given values over them, run the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.declare.degradation import CheaperModel
from bowerbird.declare.scenes import Scene
from bowerbird.plan.block import FeatureBlock
from bowerbird.serving.clock import Clock
from bowerbird.serving.given import CandidateGiven, Given
from bowerbird.serving.live_model import LiveModel
from bowerbird.serving.releases import Releases
from bowerbird.serving.request_form import RequestForm
from bowerbird.serving.weights import needed_labels, ranking_score, scene_weights

Id = str | int


@dataclass(frozen=True)
class Question:
    """Who asks about which candidates, in which context, with which feature values of their own.

    Ids and context have their declared types (see ``RequestForm``).
    """

    user: Id
    context: Mapping[str, Any]
    candidates: Sequence[Id]
    given: Given
    by_candidate: CandidateGiven


@dataclass(frozen=True)
class Scored:
    """The answer, and all that it was made of; ``features`` are as read, before given values.

    ``seconds`` tells what its stages took.
    """

    question: Question
    model: LiveModel
    time: int
    features: FeatureBlock
    scores: dict[str, npt.NDArray[np.float32]]
    ranking: npt.NDArray[np.float32]
    seconds: Mapping[str, float]


class SceneRanker:
    """Scores candidates of one scene with the live version of a model."""

    def __init__(self, scene: Scene, form: RequestForm, releases: Releases, clock: Clock) -> None:
        self.scene = scene
        self._form = form
        self._releases = releases
        self._clock = clock
        self._weights = scene_weights(scene)
        self._needed = needed_labels(scene)
        self._reserved = [step.name for step in scene.degrade if isinstance(step, CheaperModel)]

    def model(self, name: str = "") -> LiveModel:
        """Return the model that answers now; UnavailableError where none can serve the scene."""
        return self._releases.for_labels(self._needed, name, self._reserved)

    def rank(self, question: Question, model_name: str = "") -> Scored:
        """Return scores in the candidates' order; InputError for values that the plan does not take."""
        model = self.model(model_name)
        started = time.perf_counter()
        state = model.state
        keys = self._form.item_keys(question.candidates)
        now = self._clock.now()
        block = state.read(now, question.user, question.context, keys)
        model.recent.saw(keys, now)
        read = time.perf_counter()
        features = model.given.apply(block, question.given, question.by_candidate, len(keys))
        scores = model.score(features, len(keys))
        ranking = ranking_score(scores, self._weights, len(keys))
        seconds = {"features": read - started, "model": time.perf_counter() - read}
        return Scored(question, model, now, block, scores, ranking, seconds)
