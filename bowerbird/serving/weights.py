"""From a score per label to the one that ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from bowerbird.declare.scenes import Scene

Scores = Mapping[str, npt.NDArray[np.float32]]


def scene_weights(scene: Scene) -> dict[str, float]:
    """Return the weight of each label that ranks in a scene: declared, or the first label alone."""
    return dict(scene.weights) or {scene.labels[0].name: 1.0}


def needed_labels(scene: Scene) -> set[str]:
    """Return the labels that a model must predict to serve a scene."""
    return {label.name for label in scene.labels} | set(scene_weights(scene))


def ranking_score(scores: Scores, weights: Mapping[str, float], candidates: int) -> npt.NDArray[np.float32]:
    """Return the weighted sum of calibrated scores, float32 [candidates]."""
    total = np.zeros(candidates, np.float32)
    for label, weight in weights.items():
        total += np.float32(weight) * scores[label]
    return total


def missing_labels(needed: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """Return the needed labels that a model does not predict, sorted."""
    return sorted(set(needed) - set(tasks))
