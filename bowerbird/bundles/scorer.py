"""From a feature block to calibrated scores, whatever kind of model a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.calibrate import Calibrations, Calibrator, Probabilities
from bowerbird.errors import MissingExtraError
from bowerbird.models.tree_columns import TreeColumns
from bowerbird.plan.block import FeatureBlock

Logits = npt.NDArray[np.float32]


class LogitModel(Protocol):
    """What a bundle's model does: logits by task, float32 [rows], for any block of its plan."""

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return logits by task; safe to call from several threads."""
        ...


class TreeModel:
    """One LightGBM booster per task over a plan's tree columns."""

    def __init__(self, columns: TreeColumns, boosters: Mapping[str, Any]) -> None:
        self.columns = columns
        self.boosters = boosters

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return the boosters' raw scores by task."""
        matrix = self.columns.transform(block)
        return {
            task: booster.predict(matrix, raw_score=True, num_threads=1).astype(np.float32)
            for task, booster in self.boosters.items()
        }


class BlendedModel:
    """A network and trees that answer with their mean logit: they err differently."""

    def __init__(self, network: LogitModel, trees: LogitModel) -> None:
        self.network = network
        self.trees = trees

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return mean logits by task."""
        trees = self.trees.logits(block)
        half = np.float32(0.5)
        return {task: half * (values + trees[task]) for task, values in self.network.logits(block).items()}


class Scorer:
    """A model with its calibrations."""

    def __init__(self, model: LogitModel, calibrations: Calibrations) -> None:
        self.model = model
        self.calibrations = calibrations
        self._calibrators = {task: Calibrator(calibration) for task, calibration in calibrations.items()}

    def score(self, block: FeatureBlock) -> dict[str, Probabilities]:
        """Return calibrated probabilities by task, float64 [rows]."""
        return self.calibrated(self.model.logits(block), block)

    def calibrated(self, logits: Mapping[str, Logits], block: FeatureBlock) -> dict[str, Probabilities]:
        """Return the probabilities that logits of a block stand for, float64 [rows] by task."""
        return {task: self._calibrators[task](values, block.categories) for task, values in logits.items()}


def import_lightgbm() -> ModuleType:
    """Return the lightgbm module; raises MissingExtraError when it is not installed."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError(
            "lightgbm is not installed.", "Install it with: pip install 'bowerbird[lightgbm]'."
        ) from error
    module: ModuleType = lightgbm
    return module
