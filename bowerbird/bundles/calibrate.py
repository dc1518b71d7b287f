"""From a model's logits to calibrated probabilities: plain data and NumPy, as serving applies it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.plan.block import Keys

Probabilities = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


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


class PlattByField(msgspec.Struct, frozen=True, tag="platt_by_field"):
    """σ(slope · logit + intercept + shift of the row's key in category feature ``field``).

    ``keys`` are 64-bit and ascend strictly; the shift of a key that is not among them is 0.
    """

    field: str
    slope: float
    intercept: float
    keys: list[int]
    shifts: list[float]

    def __post_init__(self) -> None:
        """Raise ValueError for keys out of order or shifts that do not match them."""
        _check_effects(self.field, self.keys, self.shifts)


class Monotone(msgspec.Struct, frozen=True, tag="monotone"):
    """σ(scale · g(logit) + shift): g rises through ``values`` at ``knots``, linear between and beyond them.

    A one-layer monotone network: g is its layer of hinges, and a key of category feature ``field`` has an embedding
    of two numbers, the scale (above 0) and the shift. Without a field, or for a key that is not among ``keys``
    (64-bit, ascending strictly), they are 1 and 0.
    """

    knots: list[float]
    values: list[float]
    field: str = ""
    keys: list[int] = []
    scales: list[float] = []
    shifts: list[float] = []

    def __post_init__(self) -> None:
        """Raise ValueError for a function that does not rise, or keys and effects that do not match."""
        if len(self.knots) < 2 or len(self.values) != len(self.knots):
            raise ValueError(f"{len(self.knots)} knots and {len(self.values)} values make no function")
        if not (_rises(self.knots) and _rises(self.values)):
            raise ValueError("knots and values must be finite and ascend strictly")
        _check_effects(self.field, self.keys, self.shifts)
        _check_effects(self.field, self.keys, self.scales)
        if not all(scale > 0 for scale in self.scales):
            raise ValueError("a scale is not above 0, so that it would turn the ranking round")


Calibration = Identity | Platt | Isotonic | PlattByField | Monotone
Calibrations = dict[str, Calibration]
"""By task."""


def field_of(calibration: Calibration) -> str:
    """Return the category feature that a calibration reads beside the logit; empty where it reads none."""
    return calibration.field if isinstance(calibration, PlattByField | Monotone) else ""


class Calibrator:
    """A calibration with its lists as arrays, to be applied many times; safe to share between threads."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.field = field_of(calibration)
        self._known: Keys = np.zeros(0, np.uint64)
        self._shifts = self._scales = self._knots = self._values = np.zeros(0)
        if isinstance(calibration, PlattByField | Monotone):
            self._known = np.array(calibration.keys, np.uint64)
            self._shifts = np.array([*calibration.shifts, 0.0])
        if isinstance(calibration, Monotone):
            self._scales = np.array([*calibration.scales, 1.0])
            self._knots, self._values = np.array(calibration.knots), np.array(calibration.values)
        elif isinstance(calibration, Isotonic):
            self._knots, self._values = np.array(calibration.logits), np.array(calibration.probabilities)

    def __call__(self, logits: npt.NDArray[np.floating], categories: Mapping[str, Keys] | None = None) -> Probabilities:
        """Return probabilities, float64 [rows].

        ``categories`` hold the keys of category features, uint64 [rows] or [1] for one that all rows share, as in a
        ``FeatureBlock``. Raises InputError when the calibration's field is not among them.
        """
        values = logits.astype(np.float64)
        match self.calibration:
            case Isotonic():
                return np.interp(values, self._knots, self._values)
            case Platt(slope, intercept):
                return logistic(slope * values + intercept)
            case PlattByField(_, slope, intercept):
                return logistic(slope * values + intercept + self._shifts[self._places(categories)])
            case Monotone():
                place = self._places(categories)
                curve = piecewise_linear(values, self._knots, self._values)
                return logistic(self._scales[place] * curve + self._shifts[place])
        return logistic(values)

    def _places(self, categories: Mapping[str, Keys] | None) -> npt.NDArray[np.int64]:
        """Return where each row's key stands in the effects, [rows] or [1]; the last place is for unknown ones."""
        if not self.field:
            return np.full(1, len(self._known))
        if categories is None or self.field not in categories:
            raise InputError(
                f"The calibration reads category feature {self.field!r}, which these rows do not have.",
                "Give the feature's keys, or train with --calibration platt, which needs none.",
            )
        return places_of(self._known, categories[self.field])


def calibrate(
    calibration: Calibration, logits: npt.NDArray[np.floating], categories: Mapping[str, Keys] | None = None
) -> Probabilities:
    """Return calibrated probabilities, float64 [rows], of a task's logits; see ``Calibrator``."""
    return Calibrator(calibration)(logits, categories)


def places_of(known: Keys, keys: Keys) -> npt.NDArray[np.int64]:
    """Return the place of each key in ascending ``known``, int64 [rows]; ``len(known)`` where it is absent."""
    place = np.searchsorted(known, keys)
    if not len(known):
        return place
    found = known[np.minimum(place, len(known) - 1)] == keys
    return np.where(found, place, len(known))


def piecewise_linear(values: Array, knots: Array, heights: Array) -> Array:
    """Return the linear interpolation through (knots, heights), going on beyond the ends with their slopes."""
    segment = np.searchsorted(knots[1:-1], values)
    slope = np.diff(heights) / np.diff(knots)
    result: Array = heights[segment] + slope[segment] * (values - knots[segment])
    return result


def logistic(values: npt.NDArray[np.float64]) -> Probabilities:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(values))
    result: Probabilities = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def calibrations_to_json(calibrations: Calibrations) -> bytes:
    """Return calibrations by task as JSON; every number is read back to the same bits."""
    return msgspec.json.encode(calibrations)


def calibrations_from_json(data: bytes) -> Calibrations:
    """Read calibrations by task; raises ``msgspec.ValidationError`` on anything else."""
    return msgspec.json.decode(data, type=Calibrations)


def _rises(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values)) and all(first < second for first, second in itertools.pairwise(values))


def _check_effects(field: str, keys: list[int], effects: list[float]) -> None:
    if len(keys) != len(effects) or not all(map(math.isfinite, effects)):
        raise ValueError(f"{len(keys)} keys need as many finite effects, not {len(effects)}")
    if keys and not field:
        raise ValueError("there are keys but no field")
    if not all(first < second for first, second in itertools.pairwise(keys)):
        raise ValueError("keys must ascend strictly")
    if keys and not (keys[0] >= 0 and keys[-1] < 2**64):
        raise ValueError("keys must have 64 bits")
