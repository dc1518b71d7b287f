"""Where a request's microseconds go inside a model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.bundles.staged_model import StagedModel
from bowerbird.compiler.backends.contract import Kept, Made, as_array
from bowerbird.compiler.capture import capture
from bowerbird.compiler.lift import lift
from bowerbird.compiler.staging import stage_graph
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.feature_reader import FeatureReader
from bowerbird.embedding.inputs import Inputs
from bowerbird.embedding.rows import PaddedSequence, RowBlock
from bowerbird.models.ranker import Ranker
from bowerbird.plan.block import FeatureBlock

_REPEATS = 15
Lap = Callable[[str], None]
"""Called with a part's name when it is done."""


@dataclass(frozen=True)
class Profile:
    """A part of a request and its median seconds."""

    part: str
    seconds: float


class StopWatch:
    """Takes the time of parts that follow one another, over several rounds."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin a round."""
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """End a part; the next one begins."""
        now = time.perf_counter()
        self._taken.setdefault(part, []).append(now - self._last)
        self._last = time.perf_counter()

    def profile(self) -> list[Profile]:
        """Return each part's median."""
        return [Profile(part, statistics.median(taken)) for part, taken in self._taken.items()]


def logits_by_parts(model: LogitModel, block: FeatureBlock, lap: Lap) -> dict[str, Logits]:
    """Return a model's logits for one request, and tell when each of its parts is done."""
    if not isinstance(model, StagedModel):
        logits = model.logits(block)
        lap("model")
        return logits
    with torch.inference_mode():
        rows = model.collection.encode(block)
        lap("keys to rows")
        answers = _answers(model, rows, lap)
        return {task: np.broadcast_to(as_array(value), rows.count) for task, value in answers.items()}


def _answers(model: StagedModel, rows: RowBlock, lap: Lap) -> Mapping[str, Made]:
    request = model.request_features(rows)
    lap("look up the request")
    given: dict[str, Made | Kept] = dict(model.request_values(request))
    lap("request stage")
    given |= model.item_values(rows)
    lap("items, kept from before")
    given |= model.pair_features(rows)
    lap("look up the pairs")
    answers = model.prepared.of_kept(given, rows.count)
    lap("candidates")
    return answers


def profile(collection: EmbeddingCollection, model: Ranker, candidates: int) -> list[Profile]:
    """Measure the parts of scoring ``candidates`` of one request with random table rows."""
    lifting = lift(capture(model, model.inputs.example(4)), model.inputs.stages)
    return profile_staged(StagedModel(collection, stage_graph(lifting.graph, []).program), candidates)


def profile_staged(staged: StagedModel, candidates: int) -> list[Profile]:
    """Measure the parts of a staged model with random table rows of items that are known."""
    rows = random_rows(staged.collection, candidates)
    watch = StopWatch()
    with torch.inference_mode():
        _answers(staged, rows, lambda part: None)
        for _ in range(_REPEATS):
            watch.start()
            _answers(staged, rows, watch.lap)
    return watch.profile()


def random_rows(collection: FeatureReader, candidates: int) -> RowBlock:
    """Return table rows and numbers of a made-up request; its sequences are full."""
    random = np.random.default_rng(0)
    inputs: Inputs = collection.inputs

    def count(stage: str) -> int:
        return 1 if stage == "request" else candidates

    def table_rows(vocabulary: str, *shape: int) -> np.ndarray:
        return random.integers(0, collection.row_count(vocabulary), shape)

    sequences = {}
    for item in inputs.sequences:
        shape = (count(item.stage), item.length)
        sequences[item.name] = PaddedSequence(
            {each.name: table_rows(each.vocabulary, *shape) for each in item.categories},
            {each.name: random.random(shape, np.float32) for each in item.numbers},
            random.random(shape, np.float32),
            np.ones(shape, bool),
        )
    return RowBlock(
        categories={each.name: table_rows(each.vocabulary, count(each.stage)) for each in inputs.categories},
        numbers={each.name: random.random(count(each.stage), np.float32) for each in inputs.numbers},
        sequences=sequences,
        vectors={each.name: random.random((count(each.stage), each.width), np.float32) for each in inputs.vectors},
    )
