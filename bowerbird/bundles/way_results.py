"""What a way of serving, a backend and a precision, must pass: it is compared with eager PyTorch in float32."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

AUC_CHANGE = 1e-4
"""How far a way's AUC may be from that of eager PyTorch."""
CALIBRATION_CHANGE = 1e-3
"""How far the ratio of a way's mean prediction to eager PyTorch's may be from 1."""
VALUE_CHANGE = 1e-5
"""How far a probability of a way in float32 may be from eager PyTorch's."""
LEAST_OF_A_KIND = 100
"""So many positive and so many negative samples of a task are needed to judge a way in fewer bits."""
EXACT = "fp32"
_MOST_PAIRS = 2000

Scores = npt.NDArray[np.float64]


class Change(msgspec.Struct, frozen=True):
    """A change that was measured and its 95% interval; null where undefined."""

    estimate: float | None
    low: float | None
    high: float | None

    def within(self, most: float) -> bool:
        """Whether the whole interval lies in [-most, most]."""
        return all(value is not None and abs(value) <= most for value in (self.estimate, self.low, self.high))

    def __str__(self) -> str:
        if self.estimate is None or self.low is None or self.high is None:
            return "undefined"
        return f"{self.estimate:+.1e} [{self.low:+.1e}, {self.high:+.1e}]"


class WayTask(msgspec.Struct, frozen=True):
    """One task served one way against eager PyTorch on held-out samples.

    ``auc`` and ``calibration`` are the changes of AUC and of the mean prediction (relative), resampled by user;
    ``kendall`` is τ of the two rankings, ``largest`` the largest difference of a probability. ``positives`` and
    ``negatives`` count the samples with a known label.
    """

    task: str
    auc: Change
    calibration: Change
    kendall: float
    largest: float
    positives: int
    negatives: int

    def refusal(self, exact: bool) -> str:
        """Return why the way may not be used; empty if it may.

        A way in float32 (``exact``) must give the same probabilities, which any number of samples can show. One in
        fewer bits must keep AUC and calibration by the whole interval, for which there must be samples enough.
        """
        if exact:
            return "" if self.largest <= VALUE_CHANGE else f"a probability of {self.task} is {self.largest:.1e} off"
        if min(self.positives, self.negatives) < LEAST_OF_A_KIND:
            return (
                f"{self.positives:,} positive and {self.negatives:,} negative samples of {self.task} are too few to "
                f"judge it by ({LEAST_OF_A_KIND} of each)"
            )
        if not self.auc.within(AUC_CHANGE):
            return f"AUC of {self.task} changes by {self.auc}"
        if not self.calibration.within(CALIBRATION_CHANGE):
            return f"the mean of {self.task} changes by {self.calibration}"
        return ""


class WayResult(msgspec.Struct, frozen=True):
    """A way's name (``native.bf16``), whether the version may be served by it, what was measured, and why not.

    ``shifts`` are what it adds to the network's logits of tasks: they were fitted on other users than those that judge.
    """

    name: str
    passed: bool
    tasks: list[WayTask]
    note: str = ""
    shifts: dict[str, float] = {}

    @property
    def exact(self) -> bool:
        """Whether it computes in float32."""
        return is_exact(self.name)

    @property
    def largest(self) -> float:
        """The largest difference of a probability that the gates saw."""
        return max((task.largest for task in self.tasks), default=0.0)


def is_exact(way: str) -> bool:
    """Return whether a way by this name computes in float32."""
    return "." not in way or way.endswith(f".{EXACT}")


def judged(way: str, tasks: list[WayTask], shifts: Mapping[str, float] | None = None) -> WayResult:
    """Return whether a way may be used by what its tasks say."""
    refusals = [refusal for task in tasks if (refusal := task.refusal(is_exact(way)))]
    return WayResult(way, not refusals, tasks, "; ".join(refusals), dict(shifts or {}))


def kendall(first: Scores, second: Scores) -> float:
    """Return Kendall's τ-b of two rankings, of 2,000 evenly spread rows at most; 1 where all are tied alike."""
    chosen = np.unique(np.linspace(0, len(first) - 1, _MOST_PAIRS).astype(np.int64))
    signs = [np.sign(each[chosen][:, None] - each[chosen][None, :]) for each in (first, second)]
    untied = [float(np.abs(each).sum()) for each in signs]
    if not all(untied):
        return 1.0 if not any(untied) else 0.0
    return float((signs[0] * signs[1]).sum() / np.sqrt(untied[0] * untied[1]))
