"""Scenes: scores for given candidates, and recommendations."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bowerbird.declare.scenes import Scene
from bowerbird.errors import InputError, UnavailableError
from bowerbird.pipeline.recommend import Recommendation, Wish
from bowerbird.pipeline.trace import Trace
from bowerbird.server import wire
from bowerbird.server.http import Request, Response
from bowerbird.server.routing import Route
from bowerbird.server.scoring import Scoring
from bowerbird.server.services import SceneServices, Services
from bowerbird.server.times import iso_time
from bowerbird.serving.answers import slate_of
from bowerbird.serving.live_model import LiveModel
from bowerbird.serving.ranker import Question
from bowerbird.serving.weights import scene_weights

_SCORE = msgspec.json.Decoder(wire.ScoreRequest)
_RECOMMEND = msgspec.json.Decoder(wire.RecommendRequest)


class ScenesRouter:
    """Handlers under ``/v1/scenes``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scoring = Scoring(services)

    def routes(self) -> list[Route]:
        """Return the scenes' operations."""
        scenes = "/v1/scenes"
        trace = (("trace", "true: explain every candidate"),)
        return [
            Route(
                "POST", f"{scenes}/{{scene}}/score", self.score, "Score candidates for a user.",
                "read", "scenes", wire.ScoreRequest, wire.ScoreAnswer,
            ),
            Route(
                "POST", f"{scenes}/{{scene}}/recommend", self.recommend, "Recommend items to a user.",
                "read", "scenes", wire.RecommendRequest, wire.RecommendAnswer, trace,
            ),
            Route("GET", scenes, self.list_scenes, "List the scenes.", "read", "scenes", None, wire.ScenesAnswer),
        ]  # fmt: skip

    async def score(self, request: Request) -> Response:
        """Answer ``POST /v1/scenes/{scene}/score``."""
        return await self._in_pool(self._score, request)

    async def recommend(self, request: Request) -> Response:
        """Answer ``POST /v1/scenes/{scene}/recommend``."""
        return await self._in_pool(self._recommend, request)

    async def list_scenes(self, request: Request) -> Response:
        """Answer ``GET /v1/scenes``."""
        answers = [self._describe(scene) for scene in self._services.workspace.project.scenes]
        return Response.json(wire.ScenesAnswer(answers))

    async def _in_pool(self, answer: Callable[[SceneServices, Request], Response], request: Request) -> Response:
        self._services.status.check_ready()
        scene = self._scoring.scene(request.parameters["scene"])
        return await self._services.pool.run(answer, scene, request)

    def _score(self, scene: SceneServices, request: Request) -> Response:
        body = request.decode(_SCORE)
        question = self._question(body)
        scored, slate = self._scoring.answer(scene, question, body.model)
        return Response.json(
            wire.ScoreAnswer(
                slate.slate_id,
                _version(scored.model),
                slate.lsn,
                iso_time(scored.time),
                {task: values.tolist() for task, values in scored.scores.items()},
                scored.ranking.tolist(),
            )
        )

    def _question(self, body: wire.ScoreRequest) -> Question:
        form = self._services.form
        self._scoring.check_count(len(body.candidates))
        plain = [each.id if isinstance(each, wire.Candidate) else each for each in body.candidates]
        by_candidate = {
            position: each.features
            for position, each in enumerate(body.candidates)
            if isinstance(each, wire.Candidate) and each.features
        }
        return Question(
            form.user_id(body.user),
            form.context(body.context),
            form.item_ids(plain),
            body.features,
            by_candidate,
        )

    def _recommend(self, scene: SceneServices, request: Request) -> Response:
        trace = Trace() if request.flag("trace") else None
        body = request.decode(_RECOMMEND)
        found = scene.pipeline.recommend(self._wish(scene, body), trace)
        slate = slate_of(found.scored, scene.name, "recommend", found.shown)
        self._scoring.log(slate)
        return Response.json(
            wire.RecommendAnswer(
                slate.slate_id,
                _version(found.scored.model),
                slate.lsn,
                iso_time(found.scored.time),
                _items(found),
                trace.to_json() if trace is not None else None,
            )
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

    def _describe(self, scene: Scene) -> wire.SceneAnswer:
        parts = self._services.scenes.get(scene.name)
        try:
            model = _version(parts.ranker.model()) if parts is not None else None
        except UnavailableError:
            model = None
        return wire.SceneAnswer(
            scene.name,
            [label.name for label in scene.labels],
            scene_weights(scene),
            list(parts.channels) if parts is not None else [],
            [getattr(each, "name", None) or each.event.name for each in scene.seen],  # type: ignore[union-attr]
            scene.slate_size,
            model,
        )


def _version(model: LiveModel) -> wire.ModelVersion:
    return wire.ModelVersion(model.name, model.version)


def _items(found: Recommendation) -> list[wire.RecommendedItem]:
    scored = found.scored
    return [
        wire.RecommendedItem(
            scored.question.candidates[position],
            float(scored.ranking[position]),
            {task: float(values[position]) for task, values in scored.scores.items()},
            found.channels[position],
        )
        for position in found.shown
    ]
