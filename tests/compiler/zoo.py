"""Models of the zoo with features of one request, as the compiler's tests need them."""

from __future__ import annotations

import torch
from torch import Tensor

from bowerbird.models import Ranker
from bowerbird.models.split_rows import all_categories
from tests.models.built import built


def request_features(model: Ranker, rows: int, seed: int) -> dict[str, Tensor]:
    """Return random features of ``rows`` candidates of one request: those of the request have one row.

    Embedded values have a deviation of one half, as those of trained tables have at most.
    """
    features = model.inputs.example(rows, torch.Generator().manual_seed(seed))
    stages = model.inputs.stages
    for item in all_categories(model.inputs):
        features[item.name] = 0.5 * features[item.name]
    return {name: value[:1] if stages[name] == "request" else value for name, value in features.items()}


def model(name: str) -> Ranker:
    """Return a model of the zoo in evaluation mode."""
    return built(name)[1]
