"""From a scene's request to its answer, on a scoring thread: decode, score at a level of the ladder, log the slate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.log.slate_id import new_slate_id
from bowerbird.pipeline.popularity import Popular
from bowerbird.pipeline.recommend import Recommendation, Wish
from bowerbird.pipeline.trace import Trace
from bowerbird.server import wire
from bowerbird.server.observe.stage_times import StageTimes
from bowerbird.server.scoring import Scoring
from bowerbird.server.services import SceneServices, Services
from bowerbird.server.times import iso_time
from bowerbird.server.web.http import Request, Response
from bowerbird.serving.answers import slate_of
from bowerbird.serving.degradation import Level
from bowerbird.serving.ranker import Id, Question, Scored

_SCORE = msgspec.json.Decoder(wire.ScoreRequest)
_RECOMMEND = msgspec.json.Decoder(wire.RecommendRequest)


class SceneAnswers:
    """Answers scoring and recommendation requests of any scene, which waited so many seconds."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scoring = Scoring(services)

    def score(self, scene: SceneServices, request: Request, level: Level, waited: float) -> Response:
        """Return the answer to ``POST /v1/scenes/{scene}/score``."""
        times = StageTimes(waited)
        body = request.decode(_SCORE)
        level = self._level(body.model, level)
        question = self._question(body)
        times.end("decode")
        if level.popular:
            popular = scene.pipeline.score_popular(question.candidates)
            times.end("popularity")
            answer = _popular_scores(popular)
        else:
            answer = self._scored(scene, question, level, times)
        return self._respond(scene, answer, level, times, {} if request.flag("trace") else None)

    def recommend(self, scene: SceneServices, request: Request, level: Level, waited: float) -> Response:
        """Return the answer to ``POST /v1/scenes/{scene}/recommend``."""
        trace = Trace() if request.flag("trace") else None
        times = StageTimes(waited)
        body = request.decode(_RECOMMEND)
        level = self._level(body.model, level)
        wish = replace(self._wish(scene, body), model=level.model)
        times.end("decode")
        if level.popular:
            answer = _popular_items(scene.pipeline.recommend_popular(wish, trace))
            times.end("popularity")
        else:
            answer = self._recommended(scene, wish, level, times, trace)
        return self._respond(scene, answer, level, times, trace.to_json() if trace is not None else None)

    def _scored(
        self, scene: SceneServices, question: Question, level: Level, times: StageTimes
    ) -> wire.ScoreAnswer:
        asked = len(question.candidates)
        scored, slate = self._scoring.answer(scene, _first(question, level.keep), level.model, times)
        return wire.ScoreAnswer(
            slate.slate_id,
            _model(scored),
            slate.lsn,
            iso_time(scored.time),
            {task: _padded(values, asked) for task, values in scored.scores.items()},
            _padded(scored.ranking, asked),
        )

    def _recommended(
        self, scene: SceneServices, wish: Wish, level: Level, times: StageTimes, trace: Trace | None
    ) -> wire.RecommendAnswer:
        found = scene.pipeline.recommend(wish, trace, level.keep)
        times.end_around("recall", found.scored.seconds)
        slate = slate_of(found.scored, scene.name, "recommend", found.shown)
        self._scoring.log(slate, times)
        return wire.RecommendAnswer(
            slate.slate_id, _model(found.scored), slate.lsn, iso_time(found.scored.time), _items(found)
        )

    def _respond(
        self,
        scene: SceneServices,
        answer: wire.ScoreAnswer | wire.RecommendAnswer,
        level: Level,
        times: StageTimes,
        trace: dict[str, Any] | None,
    ) -> Response:
        if level.name:
            answer.degraded = level.name
            self._services.metrics.degraded.labels(scene.name, level.name).inc()
        if trace is not None:
            answer.trace = {**trace, "stages_ms": times.milliseconds()}
        response = Response.json(answer)
        times.end("encode")
        if trace is not None:
            response.headers.append((b"server-timing", times.header()))
        response.stages = times.seconds
        return response

    def _level(self, named: str, level: Level) -> Level:
        """Return the level that can be had: a request's own model is kept, a model that is not live is passed over."""
        if named:
            return level.for_named_model(named)
        if level.model and level.model not in self._services.releases.live:
            return replace(level, model="")
        return level

    def _question(self, body: wire.ScoreRequest) -> Question:
        form = self._services.form
        self._scoring.check_count(len(body.candidates))
        plain, by_candidate = _parted(body.candidates)
        return Question(
            form.user_id(body.user),
            form.context(body.context),
            form.item_ids(plain),
            body.features,
            by_candidate,
        )

    def _wish(self, scene: SceneServices, body: wire.RecommendRequest) -> Wish:
        form = self._services.form
        limit = self._services.workspace.settings.server.candidate_limit
        count = scene.pipeline.scene.slate_size if body.count is None else body.count
        if not 1 <= count <= limit:
            raise InputError(f"count is {count}.", f"Ask for 1 to {limit:,} items.")
        return Wish(
            form.user_id(body.user), form.context(body.context), body.features, count,
            form.item_ids(body.exclude), body.model,
        )  # fmt: skip


def _parted(candidates: Sequence[Id | wire.Candidate]) -> tuple[Sequence[Id], dict[int, dict[str, Any]]]:
    """Return the ids, and by position the features that candidates came with."""
    if wire.Candidate not in set(map(type, candidates)):
        return cast(Sequence[Id], candidates), {}
    given = {place: each for place, each in enumerate(candidates) if isinstance(each, wire.Candidate)}
    ids = [each.id if isinstance(each, wire.Candidate) else each for each in candidates]
    return ids, {place: each.features for place, each in given.items() if each.features}


def _first(question: Question, keep: int) -> Question:
    """Return the question about its first candidates; 0 keeps all."""
    if not keep or len(question.candidates) <= keep:
        return question
    by_candidate = {at: values for at, values in question.by_candidate.items() if at < keep}
    return replace(question, candidates=question.candidates[:keep], by_candidate=by_candidate)


def _padded(values: npt.NDArray[np.float32], length: int) -> list[float | None]:
    """Return values as a list; candidates that were left out are null."""
    listed: list[float | None] = values.tolist()
    return listed + [None] * (length - len(listed))


def _popular_scores(popular: Popular) -> wire.ScoreAnswer:
    identifier = new_slate_id(popular.lsn, popular.time)
    return wire.ScoreAnswer(identifier, None, popular.lsn, iso_time(popular.time), {}, popular.counts.tolist())


def _popular_items(popular: Popular) -> wire.RecommendAnswer:
    items = [
        wire.RecommendedItem(
            popular.candidates[position], float(popular.counts[position]), {}, popular.channels[position]
        )
        for position in popular.shown
    ]
    return wire.RecommendAnswer(
        new_slate_id(popular.lsn, popular.time), None, popular.lsn, iso_time(popular.time), items
    )


def _model(scored: Scored) -> wire.ModelVersion:
    return wire.ModelVersion(scored.model.name, scored.model.version)


def _items(found: Recommendation) -> list[wire.RecommendedItem]:
    scored: Scored = found.scored
    return [
        wire.RecommendedItem(
            scored.question.candidates[position],
            float(scored.ranking[position]),
            {task: float(values[position]) for task, values in scored.scores.items()},
            found.channels[position],
        )
        for position in found.shown
    ]
