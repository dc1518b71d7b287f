"""Feature values that a request gives: checked by the plan, laid over the computed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import GIVEN_PREFIX, MISSING_KEY, Feature, Plan

Given = Mapping[str, Any]
CandidateGiven = Mapping[int, Given]
"""Feature values by the candidate's position."""


_AGE = "age"
Converted = int | float | npt.NDArray[np.float32] | Ragged
_Laid = dict[str, dict[str, Any]]
"""Columns by kind and name, of the block that is made."""


@dataclass(frozen=True)
class GivenType:
    """What a given value is: number, vector, text, integer or flag; ``width`` is a vector's."""

    type: str
    width: int


@dataclass(frozen=True)
class _Giveable:
    """A feature that a request may give, and how its JSON value becomes a key, a number, a vector or a sequence."""

    feature: Feature
    convert: Callable[[Any], Converted]


class GivenFeatures:
    """Lays given values over a block of one plan's features.

    Attributes and context (plain values), all numbers and all vectors can be given; crosses, calendar features,
    sequences and categories that a function makes follow from other values and cannot. A sequence of events that
    never occur, as ready-made columns have them, can: a list of events, oldest first, each a value or an object of its
    fields, with its ``age`` in seconds where known.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._names = [feature.name for feature in plan.features]
        self._giveable = {
            feature.name: _Giveable(feature, convert)
            for feature in plan.features
            if (convert := _converter(plan, feature)) is not None
        }

    def types(self) -> dict[str, GivenType]:
        """Return, by feature, what a value for it is; sequences are left out."""
        features = [each.feature for each in self._giveable.values() if each.feature.kind != "sequence"]
        return {each.name: GivenType(_type_of(self._plan, each), each.width) for each in features}

    def apply(self, block: FeatureBlock, given: Given, by_candidate: CandidateGiven, candidates: int) -> FeatureBlock:
        """Return the block with given values in place; InputError names what cannot be given."""
        if not given and not by_candidate:
            return block
        laid: _Laid = {
            "category": dict(block.categories),
            "number": dict(block.numbers),
            "sequence": dict(block.sequences),
            "vector": dict(block.vectors),
        }
        for name, value in given.items():
            giveable = self._find(name)
            columns = laid[giveable.feature.kind]
            if giveable.feature.kind == "sequence":
                columns[name] = _converted(giveable, value)
                continue
            rows = 1 if giveable.feature.stage == "request" else candidates
            columns[name] = np.full((rows, *columns[name].shape[1:]), _converted(giveable, value), columns[name].dtype)
        self._apply_by_candidate(by_candidate, laid)
        return FeatureBlock(laid["category"], laid["number"], laid["sequence"], block.lsn, laid["vector"])

    def _apply_by_candidate(self, by_candidate: CandidateGiven, laid: _Laid) -> None:
        copied: set[str] = set()
        for row, values in by_candidate.items():
            for name, value in values.items():
                giveable = self._find(name)
                if giveable.feature.stage == "request":
                    raise InputError(
                        f"Feature {name!r} belongs to the request, not to candidate {row}.",
                        "Give it once, in the request's own `features`.",
                    )
                columns = laid[giveable.feature.kind]
                if name not in copied:
                    columns[name] = columns[name].copy()
                    copied.add(name)
                columns[name][row] = _converted(giveable, value)

    def _find(self, name: str) -> _Giveable:
        giveable = self._giveable.get(name)
        if giveable is not None:
            return giveable
        if name in self._names:
            raise InputError(
                f"Feature {name!r} follows from other values and cannot be given.", "Give what it is made of."
            )
        raise InputError(f"The model has no feature {name!r}.", nearest(name, self._names))


def _converter(plan: Plan, feature: Feature) -> Callable[[Any], Converted] | None:
    if feature.kind == "number":
        return _number
    if feature.kind == "vector":
        return partial(_vector, feature.width)
    if feature.kind == "sequence":
        return _sequence_converter(plan, feature) if plan.nodes[feature.node].op == "sequence" else None
    return _CONVERTERS.get(_type_of(plan, feature))


def _type_of(plan: Plan, feature: Feature) -> str:
    """Return what a feature's values are; empty for a category that follows from other values."""
    if feature.kind != "category":
        return feature.kind
    node = plan.nodes[feature.node]
    if node.op != "value" or node.path is None:
        return ""
    slot = node.path.hops[-1].slot if node.path.hops else node.path.slot
    return plan.slots[slot].type


def _sequence_converter(plan: Plan, feature: Feature) -> Callable[[Any], Converted] | None:
    """Return the conversion of a sequence of events that never occur; None of any other."""
    (feed, *more) = plan.aggregates[plan.nodes[feature.node].aggregate].feeds
    if more or not plan.types[feed.type].name.startswith(GIVEN_PREFIX):
        return None
    types = [plan.slots[path.slot].type for path in feed.fields]
    fields = {
        field.name: _CONVERTERS[kind] if field.is_category else _number
        for field, kind in zip(feature.fields, types, strict=True)
    }
    return partial(_events, feature.length, fields)


def _converted(giveable: _Giveable, value: Any) -> Any:
    try:
        return giveable.convert(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"Feature {giveable.feature.name!r} is given as {value!r}: {error}.",
            "Correct the value, or leave it out.",
        ) from error


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("it is a number")
    return float(value)


def _vector(width: int, value: Any) -> npt.NDArray[np.float32]:
    if value is None:
        return np.full(width, np.nan, np.float32)
    if not isinstance(value, list) or len(value) != width:
        raise TypeError(f"it is a list of {width} numbers")
    with np.errstate(over="ignore"):
        vector = np.array([_number(each) for each in value]).astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a component is missing or too large")
    return vector


def _events(length: int, fields: dict[str, Callable[[Any], int | float]], value: Any) -> Ragged:
    if value is not None and not isinstance(value, list):
        raise TypeError("it is a list of events")
    events = [_event(fields, each) for each in (value or [])[-length:]]
    columns: dict[str, Any] = {}
    for name, convert in fields.items():
        dtype = np.float32 if convert is _number else np.uint64
        columns[name] = np.array([convert(event.get(name)) for event in events], dtype)
    ages = np.array([_number(event.get(_AGE, 0.0)) for event in events], np.float32)
    return Ragged(np.array([0, len(events)], np.int64), columns, ages)


def _event(fields: Mapping[str, Any], event: Any) -> Mapping[str, Any]:
    if not isinstance(event, dict):
        if len(fields) != 1:
            raise TypeError(f"each event is an object of {', '.join(fields)}")
        return {next(iter(fields)): event}
    unknown = sorted(set(event) - set(fields) - {_AGE})
    if unknown:
        raise ValueError(f"an event has no field {unknown[0]!r}")
    return event


def _text(value: Any) -> int:
    if value is None:
        return MISSING_KEY
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("it is a text")
    return key_text(str(value))


def _integer(value: Any) -> int:
    if value is None:
        return MISSING_KEY
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("it is an integer")
    return key_integer(int(value))


def _flag(value: Any) -> int:
    if value is None:
        return MISSING_KEY
    if value not in (0, 1, True, False):
        raise TypeError("it is true or false")
    return key_integer(int(value))


_CONVERTERS: dict[str, Callable[[Any], int | float]] = {"text": _text, "integer": _integer, "flag": _flag}
