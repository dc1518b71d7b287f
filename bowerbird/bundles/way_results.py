"""What a way of serving, a backend and a precision, must pass: it is compared with eager PyTorch in float32."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

AUC_CHANGE = 1e-4
"""How far a way's AUC may be from that of eager PyTorch."""
CALIBRATION_CHANGE = 1e-3
"""How far the ratio of a way's mean prediction to eager PyTorch's may be from 1."""
_MOST_PAIRS = 2000

Scores = npt.NDArray[np.float64]


class WayTask(msgspec.Struct, frozen=True):
    """One task served one way, against eager PyTorch: change of AUC and of mean prediction, Kendall's τ of scores.

    ``auc`` is null where it is undefined.
    """

    task: str
    auc: float | None
    calibration: float
    kendall: float

    @property
    def passed(self) -> bool:
        """Whether both changes are small enough."""
        return abs(self.auc or 0.0) <= AUC_CHANGE and abs(self.calibration) <= CALIBRATION_CHANGE


class WayResult(msgspec.Struct, frozen=True):
    """A way's name (``native.bf16``), whether the version may be served by it, and what was measured."""

    name: str
    passed: bool
    tasks: list[WayTask]
    note: str = ""


def compare_scores(task: str, eager: Scores, served: Scores, eager_auc: float, served_auc: float) -> WayTask:
    """Return how a way's scores differ from eager PyTorch's."""
    change = served_auc - eager_auc
    return WayTask(
        task=task,
        auc=None if np.isnan(change) else float(change),
        calibration=float(served.mean() / eager.mean() - 1.0),
        kendall=kendall(eager, served),
    )


def kendall(first: Scores, second: Scores) -> float:
    """Return Kendall's τ-b of two rankings, of 2,000 evenly spread rows at most; 1 where all are tied alike."""
    chosen = np.unique(np.linspace(0, len(first) - 1, _MOST_PAIRS).astype(np.int64))
    signs = [np.sign(each[chosen][:, None] - each[chosen][None, :]) for each in (first, second)]
    untied = [float(np.abs(each).sum()) for each in signs]
    if not all(untied):
        return 1.0 if not any(untied) else 0.0
    return float((signs[0] * signs[1]).sum() / np.sqrt(untied[0] * untied[1]))
