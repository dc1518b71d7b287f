"""Which vocabularies have native tables, and of what kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bowerbird.errors import InputError
from bowerbird.kernels.table_config import TableConfig

EVERY_OTHER = "*"
"""Stands for all vocabularies that are not named."""
_LAZY_ADAM = {"name": "Adam"}
_SET_HERE = ("dimension", "initial_scale", "seed")

Options = Mapping[str, Mapping[str, Any]]


def is_native(options: Options, vocabulary: str) -> bool:
    """Say whether a vocabulary is given a native table."""
    return vocabulary in options or EVERY_OTHER in options


def native_config(
    options: Options, vocabulary: str, dimension: int, initial_scale: float, seed: int
) -> tuple[TableConfig, float | None]:
    """Return a vocabulary's table configuration, and the learning rate of its own if it was given one.

    Without options it has lazy Adam. Raises InputError for options that make no sense.
    """
    given = dict(options.get(vocabulary, options.get(EVERY_OTHER, {})))
    for name in _SET_HERE:
        if name in given:
            raise InputError(
                f"The table {vocabulary!r} is given {name!r}.",
                "Set dimension, dimensions and initial_scale for all tables.",
            )
    optimiser = given.get("optimiser", _LAZY_ADAM)
    whole = {"admission": {}, "expiry": {}, **given, "optimiser": {**_LAZY_ADAM, **optimiser}}
    whole |= {"dimension": dimension, "initial_scale": initial_scale, "seed": seed}
    return TableConfig.from_json(json.dumps(whole)), optimiser.get("learning_rate")
