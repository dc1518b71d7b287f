"""Where a request's microseconds go inside a staged model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bowerbird.bundles.staged_model import StagedModel
from bowerbird.compiler.capture import capture
from bowerbird.compiler.lift import lift
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.inputs import Inputs
from bowerbird.embedding.rows import PaddedSequence, RowBlock
from bowerbird.models.ranker import Ranker

_REPEATS = 15


@dataclass(frozen=True)
class Profile:
    """A part of a request and its median seconds."""

    part: str
    seconds: float


def profile(collection: EmbeddingCollection, model: Ranker, candidates: int) -> list[Profile]:
    """Measure the parts of scoring ``candidates`` of one request with random table rows."""
    lifting = lift(capture(model, model.inputs.example(4)), model.inputs.stages)
    return profile_staged(StagedModel(collection, lifting.graph), candidates)


def profile_staged(staged: StagedModel, candidates: int) -> list[Profile]:
    """Measure the parts of a staged model, items unknown and known."""
    rows = random_rows(staged.collection, candidates)
    inputs = staged.collection.inputs
    with torch.inference_mode():
        request = staged.collection.lookup_once(rows, inputs.of_stages("request"))
        given = {**staged.request_values(request), **staged.item_values(rows), **staged.pair_features(rows)}
        parts: dict[str, Callable[[], object]] = {
            "look up the request": lambda: staged.collection.lookup_once(rows, inputs.of_stages("request")),
            "request stage": lambda: staged.request_values(request),
            "items, kept from before": lambda: staged.item_values(rows),
            "look up the pairs": lambda: staged.pair_features(rows),
            "candidates": lambda: staged.prepared.of_kept(given, candidates),
        }
        return [Profile(part, _median(run)) for part, run in parts.items()]


def random_rows(collection: EmbeddingCollection, candidates: int) -> RowBlock:
    """Return table rows and numbers of a made-up request; its sequences are full."""
    random = np.random.default_rng(0)
    inputs: Inputs = collection.inputs

    def count(stage: str) -> int:
        return 1 if stage == "request" else candidates

    def table_rows(vocabulary: str, *shape: int) -> np.ndarray:
        return random.integers(0, len(collection.table(vocabulary)), shape)

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


def _median(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
