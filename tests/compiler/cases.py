"""Every module that the compiler must take, with features of one request and its compilation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from bowerbird.compiler.staging import Compilation, compile_module
from bowerbird.embedding import EmbeddingCollection
from bowerbird.models import MODELS, Ranker
from bowerbird.models.split_rows import all_categories
from tests.compiler import modules
from tests.models.built import built

NAMES = [*MODELS, *modules.ODD, *modules.COUPLED]


@dataclass(frozen=True)
class Case:
    """A module in evaluation mode; ``features(rows, seed)`` of one request; its compilation; a model's empty tables."""

    module: nn.Module
    features: Callable[[int, int], dict[str, Tensor]]
    compilation: Compilation
    tables: EmbeddingCollection | None = None


def request_features(model: Ranker, rows: int, seed: int) -> dict[str, Tensor]:
    """Return random features of ``rows`` candidates of one request: those of the request have one row.

    Embedded values have a deviation of one half, as those of trained tables have at most.
    """
    features = model.inputs.example(rows, torch.Generator().manual_seed(seed))
    stages = model.inputs.stages
    for item in all_categories(model.inputs):
        features[item.name] = 0.5 * features[item.name]
    return {name: value[:1] if stages[name] == "request" else value for name, value in features.items()}


@cache
def case(name: str) -> Case:
    """Return a model of the zoo over empty tables, or an odd module; compiled once for all tests."""
    if name in MODELS:
        tables, model = built(name)
        features = partial(request_features, model)
        example = modules.expanded(features(4, 0), 4)
        return Case(model, features, compile_module(model, example, model.inputs.stages), tables)
    torch.manual_seed(0)
    module = (modules.ODD | modules.COUPLED)[name]().eval()
    example = modules.expanded(modules.example(4, 0), 4)
    return Case(module, modules.example, compile_module(module, example, modules.STAGES))
