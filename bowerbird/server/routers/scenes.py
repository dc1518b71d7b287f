"""Scenes: scores for given candidates, and recommendations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bowerbird.declare.scenes import Scene
from bowerbird.errors import UnavailableError
from bowerbird.server import wire
from bowerbird.server.load.admission import Work
from bowerbird.server.load.deadlines import deadline_of
from bowerbird.server.scene_answers import SceneAnswers
from bowerbird.server.scoring import Scoring
from bowerbird.server.services import SceneServices, Services
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.routing import Route
from bowerbird.serving.degradation import Level
from bowerbird.serving.weights import scene_weights

Answer = Callable[[SceneServices, Request, Level, float], Response]


class ScenesRouter:
    """Handlers under ``/v1/scenes``.

    A request for an answer is admitted by its head, at the level of the scene's ladder that the load asks for, before
    its body is read.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._answers = SceneAnswers(services)
        self._scoring = Scoring(services)

    def routes(self) -> list[Route]:
        """Return the scenes' operations."""
        scenes = "/v1/scenes"
        return [
            Route(
                "POST", f"{scenes}/{{scene}}/score", self.score, "Score candidates for a user.",
                "read", "scenes", wire.ScoreRequest, wire.ScoreAnswer,
                (("trace", "true: tell what each stage took"),), self.admit,
            ),
            Route(
                "POST", f"{scenes}/{{scene}}/recommend", self.recommend, "Recommend items to a user.",
                "read", "scenes", wire.RecommendRequest, wire.RecommendAnswer,
                (("trace", "true: explain every candidate, and what each stage took"),), self.admit,
            ),
            Route("GET", scenes, self.list_scenes, "List the scenes.", "read", "scenes", None, wire.ScenesAnswer),
        ]  # fmt: skip

    def admit(self, request: Request) -> None:
        """Admit a request by its head, or raise OverloadedError, DeadlineError."""
        self._services.status.check_ready()
        scene = self._scene(request)
        deadline = deadline_of(request, scene.deadline_seconds)
        recommends = request.path.endswith("/recommend")
        size = request.body_length
        level = 0
        if self._services.degradation.can_change:
            pressure = self._pressure(scene, recommends, size, deadline - request.arrived)
            level = self._services.degradation.choose(scene.name, pressure)
        request.work = Work(scene.service(recommends, level), size, request.arrived, deadline, level)
        self._services.pool.check(request.work)

    def _pressure(self, scene: SceneServices, recommends: bool, size: int, seconds: float) -> float:
        """Return the share of its time that a request would wait; all of it when the scene's own would not suffice."""
        level = self._services.degradation.level(scene.name)
        if scene.service(recommends, level).expect(size) > scene.deadline_seconds:
            return 1.0
        return self._services.pool.wait_seconds() / max(1e-3, seconds)

    def score(self, request: Request) -> Awaitable[Response]:
        """Answer ``POST /v1/scenes/{scene}/score``."""
        return self._in_pool(self._answers.score, request)

    def recommend(self, request: Request) -> Awaitable[Response]:
        """Answer ``POST /v1/scenes/{scene}/recommend``."""
        return self._in_pool(self._answers.recommend, request)

    async def list_scenes(self, request: Request) -> Response:
        """Answer ``GET /v1/scenes``."""
        answers = [self._describe(scene) for scene in self._services.workspace.project.scenes]
        return Response.json(wire.ScenesAnswer(answers))

    def _in_pool(self, answer: Answer, request: Request) -> Awaitable[Response]:
        scene, work = self._scene(request), request.work
        assert work is not None
        level = scene.levels[work.level]
        return self._services.pool.run(
            work, lambda waited: answer(scene, request, level, waited), request.on_disconnect
        )

    def _scene(self, request: Request) -> SceneServices:
        return self._scoring.scene(request.parameters["scene"])

    def _describe(self, scene: Scene) -> wire.SceneAnswer:
        parts = self._services.scenes.get(scene.name)
        try:
            model = parts.ranker.model() if parts is not None else None
        except UnavailableError:
            model = None
        return wire.SceneAnswer(
            scene.name,
            [label.name for label in scene.labels],
            scene_weights(scene),
            list(parts.channels) if parts is not None else [],
            [getattr(each, "name", None) or each.event.name for each in scene.seen],  # type: ignore[union-attr]
            scene.slate_size,
            wire.ModelVersion(model.name, model.version) if model is not None else None,
        )
