"""What one run of a pair program is given, checked: the request's matrices and the candidates' rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.kernels.pair_rows import StoredRows
from bowerbird.kernels.pair_spec import PairInput, PairSpec

Values = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Items = Values | tuple[StoredRows, Places]


@dataclass(frozen=True)
class Given:
    """Checked inputs by name: ``request`` rows [width] and sequences [length, width], ``items`` with one row each."""

    request: dict[str, Values]
    items: dict[str, Items]
    count: int

    @classmethod
    def check(cls, spec: PairSpec, request: Mapping[str, Values], items: Mapping[str, Items], count: int) -> Given:
        """Check shapes and types; InputError names what is missing or does not fit."""
        rows: dict[str, Values] = {}
        taken: dict[str, Items] = {}
        if count < 0:
            raise InputError(f"A run of {count} candidates cannot be.", "Give 0 or more.")
        for name, each in spec.inputs.items():
            source: Mapping[str, object] = request if each.stage == "request" else items
            if name not in source:
                raise InputError(f"Input {name!r} of a pair program is not given.", f"Pass it by {each.stage}.")
            if each.stage == "request":
                rows[name] = _request(each, request[name])
            else:
                taken[name] = _items(each, items[name], count)
        _check_lengths(spec, rows)
        return cls(rows, taken, count)


def _request(each: PairInput, values: Values) -> Values:
    array = np.ascontiguousarray(values)
    shape = array.reshape(-1, each.width) if array.ndim and array.size % each.width == 0 else array
    fits = shape.ndim == 2 and array.dtype == np.float32 and (each.length or len(shape) == 1)
    if not fits or (array.ndim != 1 and array.shape[-1] != each.width):
        wanted = f"[length, {each.width}]" if each.length else f"[{each.width}]"
        raise InputError(f"Input {each.name!r} is {array.dtype} {array.shape}.", f"Give float32 {wanted}.")
    return shape if each.length else shape[0]


def _items(each: PairInput, given: Items, count: int) -> Items:
    if not isinstance(given, tuple):
        if given.shape != (count, each.width) or given.dtype != np.float32:
            raise InputError(
                f"Input {each.name!r} is {given.dtype} {given.shape}.", f"Give float32 [{count}, {each.width}]."
            )
        return np.ascontiguousarray(given)
    stored, places = given
    if stored.values.shape[1] != each.width or places.shape != (count,) or places.dtype != np.int64:
        raise InputError(
            f"Input {each.name!r} has rows {places.dtype} {places.shape} of a matrix {stored.values.shape}.",
            f"Give int64 [{count}] into a matrix of width {each.width}.",
        )
    if count and (places.min() < 0 or places.max() >= len(stored.values)):
        raise InputError(
            f"Input {each.name!r} asks for rows {places.min()} to {places.max()}.",
            f"The stored matrix has {len(stored.values)}.",
        )
    return stored, np.ascontiguousarray(places)


def _check_lengths(spec: PairSpec, rows: Mapping[str, Values]) -> None:
    for step in spec.steps:
        names = [
            step.fields[key] for key in ("history", "history_part", "keys", "values", "mask") if step.fields.get(key)
        ]
        lengths = {name: len(rows[name]) for name in names if spec.is_sequence(name)}
        if len(set(lengths.values())) > 1:
            step.refuse(f"has sequences of different lengths {lengths}", "Give each the same number of positions.")
