"""Where a request's microseconds go, from its bytes to the answer's, with a project's own users, items and state."""

from __future__ import annotations

import random
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from bowerbird.bundles.bundle import read_bundle
from bowerbird.bundles.choose_way import Served, load_served, way_setting
from bowerbird.bundles.profile import Profile, StopWatch, logits_by_parts
from bowerbird.bundles.registry import Registry
from bowerbird.bundles.way_choice import WayChoice
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import NotFoundError
from bowerbird.log.reader import LogReader
from bowerbird.log.snapshots import open_snapshots
from bowerbird.server import wire
from bowerbird.server.times import iso_time
from bowerbird.server.web.http import Response
from bowerbird.serving.answers import slate_of
from bowerbird.serving.live_model import LiveModel
from bowerbird.serving.log_access import LogHistory
from bowerbird.serving.ranker import Question, Scored
from bowerbird.serving.request_form import RequestForm
from bowerbird.serving.slates import SlateLog
from bowerbird.serving.state import LiveState
from bowerbird.serving.weights import ranking_score, scene_weights

_DECODER = msgspec.json.Decoder(wire.ScoreRequest)


@dataclass(frozen=True)
class RequestProfile:
    """The parts of a request to score some candidates, in order, and the way that the model was served by."""

    model: str
    version: int
    candidates: int
    parts: list[Profile]
    choice: WayChoice


def profile_requests(workspace: Workspace, name: str, candidates: int, requests: int = 50) -> RequestProfile:
    """Measure requests of random users and items of the log by a live version, one after another.

    Each is answered once before it is measured, so that what is kept of its items stands ready as it does in a server.
    State is made from snapshots and the log, beside a server that may run. Raises NotFoundError where no version of
    ``name`` is live (without a name: of any model) or the log is empty.
    """
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    try:
        folder = _live_folder(registry, name)
    finally:
        registry.close()
    bundle = read_bundle(folder)
    served = load_served(bundle, way_setting(workspace))
    reader = LogReader(workspace)
    state = LiveState(LogHistory(workspace, threading.Event()), reader.size, open_snapshots(workspace))
    try:
        model = LiveModel(bundle, served, state.require(bundle.plan))
        bodies = _bodies(workspace, reader, candidates, requests)
        watch = StopWatch()
        with tempfile.TemporaryDirectory() as slates:
            path = _Path(workspace, model, served, reader.frontier, SlateLog(Path(slates)))
            for body in bodies:
                path.answer(body, StopWatch())
            for body in bodies:
                path.answer(body, watch)
            path.slates.close()
    finally:
        state.close()
    return RequestProfile(model.name, model.version, candidates, watch.profile(), served.choice)


def _live_folder(registry: Registry, name: str) -> Path:
    live = registry.live_versions()
    chosen = name or next(reversed(live), "")
    if chosen not in live:
        raise NotFoundError(
            f"No version of {name or 'any model'} is live.", "Promote one: `bowerbird models promote NAME VERSION`."
        )
    return registry.folder_of(chosen, live[chosen])


def _bodies(workspace: Workspace, reader: LogReader, candidates: int, count: int) -> list[bytes]:
    project = workspace.project
    exposures = reader.records(project.exposure.name)
    entities = (project.user, project.item)
    users, items = (exposures.column(each.name).unique().drop_null().to_pylist() for each in entities)
    if not users or not items:
        raise NotFoundError("The log has no exposure.", "Ingest some: `bowerbird ingest`.")
    chance = random.Random(0)
    return [
        msgspec.json.encode({"user": chance.choice(users), "candidates": chance.choices(items, k=candidates)})
        for _ in range(count)
    ]


@dataclass(frozen=True)
class _Path:
    """What a score request goes through in a server, without the connection."""

    workspace: Workspace
    model: LiveModel
    served: Served
    time: int
    slates: SlateLog

    def answer(self, body: bytes, watch: StopWatch) -> Response:
        form = RequestForm(self.workspace.project)
        scene = self.workspace.project.scenes[0]
        scorer = self.served.scorer
        watch.start()
        asked = _DECODER.decode(body)
        question = Question(form.user_id(asked.user), {}, form.item_ids(asked.candidates), {}, {})
        keys = form.item_keys(question.candidates)
        watch.lap("read the body")
        block = self.model.state.read(self.time, question.user, question.context, keys)
        watch.lap("features")
        logits = logits_by_parts(scorer.model, block, watch.lap)
        scores = {task: values.astype(np.float32) for task, values in scorer.calibrated(logits, block).items()}
        watch.lap("calibration")
        ranking = ranking_score(scores, scene_weights(scene), len(keys))
        watch.lap("ranking")
        slate = slate_of(Scored(question, self.model, self.time, block, scores, ranking, {}), scene.name, "score")
        self.slates.append(slate)
        watch.lap("slate")
        answer = Response.json(
            wire.ScoreAnswer(
                slate.slate_id,
                wire.ModelVersion(self.model.name, self.model.version),
                slate.lsn,
                iso_time(slate.time),
                {task: values.tolist() for task, values in scores.items()},
                ranking.tolist(),
            )
        )
        watch.lap("write the answer")
        return answer
