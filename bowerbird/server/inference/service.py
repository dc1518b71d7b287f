"""What the Open Inference Protocol asks of a server, whatever carries it: metadata, readiness, inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError, NotFoundError
from bowerbird.server.inference.signature import RANKING, SCORES, Signature
from bowerbird.server.inference.tensors import Tensor
from bowerbird.server.load.admission import Work
from bowerbird.server.observe.stage_times import StageTimes
from bowerbird.server.scoring import Scoring
from bowerbird.server.services import SceneServices, Services
from bowerbird.server.times import iso_time

_MODEL = "model"


@dataclass(frozen=True)
class Inference:
    """A request: a scene's name, a version's number or "", inputs, names of outputs (none: all), parameters."""

    scene: str
    version: str
    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Inferred:
    """The answer: float32 [candidates] by output's name; ``parameters`` are slate_id, lsn, time and model."""

    scene: str
    version: str
    outputs: dict[str, npt.NDArray[np.float32]]
    parameters: dict[str, str | int]


class InferenceService:
    """Scenes as models: a model's name is a scene's, its version the number of the live version that answers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._scoring = Scoring(services)
        self._signatures: dict[tuple[str, str], Signature] = {}

    @property
    def ready(self) -> bool:
        """Whether the server can answer."""
        return self._services.status.phase == "ready"

    def scene(self, name: str) -> SceneServices:
        """Return a scene by name; NotFoundError for an unknown one, UnavailableError before the server is ready."""
        self._services.status.check_ready()
        return self._scoring.scene(name)

    def signature(self, scene: SceneServices, number: str = "", model: str = "") -> Signature:
        """Return the inputs and outputs of a scene.

        Raises NotFoundError where another version than ``number`` answers, UnavailableError where none does.
        """
        live = scene.ranker.model(model)
        if number and number != str(live.version):
            raise NotFoundError(
                f"{scene.name!r} is answered by version {live.version} of {live.name!r}, not {number!r}.",
                "Leave the version out, or promote the one that you mean.",
            )
        known = self._signatures.get((scene.name, live.name))
        if known is None or known.model is not live:
            known = Signature(self._services.form, live)
            self._signatures[scene.name, live.name] = known
        return known

    def work(self, scene: SceneServices, size: int, arrived: float, deadline: float) -> Work:
        """Return what an inference of ``size`` bytes asks of the pool; times are monotonic seconds.

        Its time is expected apart from REST's, whose bodies have other lengths.
        """
        return self._services.work_until(f"inference {scene.name}", arrived, deadline, size)

    def infer(self, asked: Inference, waited: float) -> Inferred:
        """Score what was asked, which waited so many seconds, and log the slate."""
        times = StageTimes(waited)
        scene = self.scene(asked.scene)
        model = asked.parameters.get(_MODEL, "")
        if not isinstance(model, str):
            raise InputError(f"The parameter {_MODEL!r} is {model!r}.", "It is a live model's name.")
        signature = self.signature(scene, asked.version, model)
        names = signature.output_names(asked.outputs)
        question = signature.question(asked.inputs)
        self._scoring.check_count(len(question.candidates))
        times.end("decode")
        scored, slate = self._scoring.answer(scene, question, signature.model.name, times)
        self._services.metrics.observe_stages(times.seconds)
        outputs = {SCORES + task: values for task, values in scored.scores.items()} | {RANKING: scored.ranking}
        return Inferred(
            scene.name,
            str(scored.model.version),
            {name: outputs[name] for name in names},
            {"slate_id": slate.slate_id, "lsn": slate.lsn, "time": iso_time(slate.time), "model": slate.model},
        )
