"""Scoring as every protocol does it: within the limit of candidates, and with the answer in the log of slates."""

from __future__ import annotations

from bowerbird.errors import InputError, NotFoundError
from bowerbird.plan.mistake import nearest
from bowerbird.server.observe.stage_times import StageTimes
from bowerbird.server.services import SceneServices, Services
from bowerbird.serving.answers import slate_of
from bowerbird.serving.ranker import Question, Scored
from bowerbird.serving.slate import Slate


class Scoring:
    """Scores candidates of the scenes of some services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def scene(self, name: str) -> SceneServices:
        """Return a scene by name; NotFoundError with the nearest one."""
        scene = self._services.scenes.get(name)
        if scene is None:
            raise NotFoundError(f"The project has no scene {name!r}.", nearest(name, list(self._services.scenes)))
        return scene

    def check_count(self, candidates: int) -> None:
        """Count a request's candidates; InputError above ``server.candidate_limit``."""
        limit = self._services.workspace.settings.server.candidate_limit
        if candidates > limit:
            raise InputError(
                f"The request has {candidates:,} candidates; the limit is {limit:,}.",
                "Send fewer, or raise server.candidate_limit.",
            )
        self._services.metrics.candidates.observe(candidates)

    def answer(self, scene: SceneServices, question: Question, model: str, times: StageTimes) -> tuple[Scored, Slate]:
        """Return the scores and the slate that was logged; ``times`` learn what took how long."""
        scored = scene.ranker.rank(question, model)
        times.add(scored.seconds)
        slate = slate_of(scored, scene.name, "score")
        self.log(slate, times)
        return scored, slate

    def log(self, slate: Slate, times: StageTimes) -> None:
        """Log a slate; the time since the stage before is one, too."""
        self._services.slates.append(slate)
        times.end("slate")
