"""Golden requests: held-out feature blocks with the answers that a bundle must give."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.bundles.block_json import BlockJson, block_from_json, block_to_json
from bowerbird.bundles.scorer import Scorer
from bowerbird.errors import CorruptionError
from bowerbird.plan.block import FeatureBlock

TOLERANCE = 1e-5
"""How far a probability may be from the golden one."""


class GoldenRequest(msgspec.Struct, frozen=True):
    """A block and its calibrated scores by task."""

    block: BlockJson
    scores: dict[str, list[float]]


def golden_request(block: FeatureBlock, scores: dict[str, npt.NDArray[np.float64]]) -> GoldenRequest:
    """Return a golden request from a block and the scores that eager PyTorch gave."""
    return GoldenRequest(block_to_json(block), {task: values.tolist() for task, values in scores.items()})


def golden_to_json(requests: list[GoldenRequest]) -> bytes:
    """Return golden requests as JSON."""
    return msgspec.json.encode(requests)


def golden_from_json(data: bytes) -> list[GoldenRequest]:
    """Read golden requests; raises ``msgspec.ValidationError`` on anything else."""
    return msgspec.json.decode(data, type=list[GoldenRequest])


def worst_difference(requests: list[GoldenRequest], scorer: Scorer) -> float:
    """Return the largest difference between a golden score and the scorer's; infinite for a missing task."""
    worst = 0.0
    for request in requests:
        scores = scorer.score(block_from_json(request.block))
        for task, expected in request.scores.items():
            if task not in scores or len(scores[task]) != len(expected):
                return float("inf")
            difference = np.abs(scores[task] - np.array(expected)).max(initial=0.0)
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    return worst


def check_golden(requests: list[GoldenRequest], scorer: Scorer, tolerance: float = TOLERANCE) -> None:
    """Raise CorruptionError unless every golden request is answered within ``tolerance``."""
    worst = worst_difference(requests, scorer)
    if worst > tolerance:
        raise CorruptionError(
            f"The golden requests are answered wrongly: a score is {worst:.3g} off (allowed {tolerance:.3g}).",
            "This host computes differently, or the bundle is damaged: publish it again here.",
        )
