"""Golden curves: the loss of each of a model's first steps, on fixed samples.

``python -m tests.models.golden [MODEL ...]`` writes them anew, when a change of what is learned is meant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from bowerbird.models import MODELS
from tests.models.built import built, training_loss
from tests.training.synthetic import World

FOLDER = Path(__file__).with_name("golden")
STEPS = 12
ROWS = 256


def curve(name: str) -> list[float]:
    """Return the losses of STEPS steps of Adam on one batch of ROWS exposures, tables and dense part together."""
    collection, model = built(name)
    block, *_ = World().draw(ROWS)
    keys = {feature: np.unique(values, return_counts=True) for feature, values in block.categories.items()}
    collection.admit(keys)
    model.train()
    optimiser = torch.optim.Adam([*collection.parameters(), *model.parameters()], lr=0.002)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = training_loss(collection, model, ROWS)
        loss.backward()
        optimiser.step()
        losses.append(round(float(loss.detach()), 5))
    return losses


def main(names: list[str]) -> None:
    """Write the curves of some models, or of all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or MODELS:
        (FOLDER / f"{name}.json").write_text(json.dumps(curve(name)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
