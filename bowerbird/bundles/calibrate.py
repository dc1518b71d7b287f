"""From a model's logits to calibrated probabilities: plain data and NumPy, as serving applies it."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]


class Identity(msgspec.Struct, frozen=True, tag="identity"):
    """The logistic function and nothing else."""


class Platt(msgspec.Struct, frozen=True, tag="platt"):
    """σ(slope · logit + intercept) (Platt, 1999)."""

    slope: float
    intercept: float


class Isotonic(msgspec.Struct, frozen=True, tag="isotonic"):
    """A monotone function through breakpoints, linear between them and constant outside.

    ``logits`` ascend strictly, ``probabilities`` never fall.
    """

    logits: list[float]
    probabilities: list[float]


Calibration = Identity | Platt | Isotonic
Calibrations = dict[str, Calibration]
"""By task."""


def calibrate(calibration: Calibration, logits: npt.NDArray[np.floating]) -> Probabilities:
    """Return calibrated probabilities, float64, of a task's logits."""
    values = logits.astype(np.float64)
    if isinstance(calibration, Isotonic):
        return np.interp(values, calibration.logits, calibration.probabilities)
    if isinstance(calibration, Platt):
        values = calibration.slope * values + calibration.intercept
    return logistic(values)


def logistic(values: npt.NDArray[np.float64]) -> Probabilities:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(values))
    result: Probabilities = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def calibrations_to_json(calibrations: Calibrations) -> bytes:
    """Return calibrations by task as JSON."""
    return msgspec.json.encode(calibrations)


def calibrations_from_json(data: bytes) -> Calibrations:
    """Read calibrations by task; raises ``msgspec.ValidationError`` on anything else."""
    return msgspec.json.decode(data, type=Calibrations)
