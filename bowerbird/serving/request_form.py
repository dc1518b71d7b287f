"""What a request may hold: user, items and context of their declared types, coerced from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.project import Project
from bowerbird.errors import InputError
from bowerbird.kernels.keys import keys_of_integers, keys_of_texts
from bowerbird.plan.block import Keys
from bowerbird.plan.catalog import plain_type
from bowerbird.plan.mistake import nearest

Id = str | int
_INT64 = range(-(2**63), 2**63)


class RequestForm:
    """Checks requests against a project's exposure: its columns are a request's context."""

    def __init__(self, project: Project) -> None:
        self.user = project.user
        self.item = project.item
        entities = {entity.name: entity.id for entity in project.exposure.entities}
        columns = {name: plain_type(column) for name, column in project.exposure.columns.items()}
        own = {project.user.name, project.item.name}
        self.context_types = {name: kind for name, kind in (entities | columns).items() if name not in own}

    def user_id(self, value: Any) -> Id:
        """Return a user's id in its declared type; InputError otherwise."""
        return _identifier(value, self.user.id, self.user.name)

    def item_id(self, value: Any) -> Id:
        """Return an item's id in its declared type; InputError otherwise."""
        return _identifier(value, self.item.id, self.item.name)

    def item_ids(self, values: Sequence[Any]) -> list[Id]:
        """Return items' ids in their declared type; InputError names the first that does not fit."""
        native = int if self.item.id is ColumnType.INTEGER else str
        if set(map(type, values)) <= {native} and _all_usable(values, native):
            return list(values)
        return [self.item_id(value) for value in values]

    def item_keys(self, identifiers: Sequence[Id]) -> Keys:
        """Return uint64 [n] keys of ids that ``item_ids`` returned."""
        if self.item.id is ColumnType.INTEGER:
            return keys_of_integers(np.array(identifiers, np.int64))
        texts = [text.encode() for text in identifiers]  # type: ignore[union-attr]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return keys_of_texts(np.frombuffer(b"".join(texts), np.uint8), offsets)

    def context(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a context in its declared types; InputError for an unknown column or another type."""
        checked = {}
        for name, value in values.items():
            kind = self.context_types.get(name)
            if kind is None:
                raise InputError(f"The context has no column {name!r}.", nearest(name, list(self.context_types)))
            checked[name] = None if value is None else _value(value, kind, name)
        return checked


def _all_usable(values: Sequence[Any], native: type) -> bool:
    if native is str:
        return "" not in values
    return not values or (min(values) in _INT64 and max(values) in _INT64)


def _identifier(value: Any, kind: ColumnType, name: str) -> Id:
    coerced = _value(value, kind, name)
    if coerced == "":
        raise InputError(f"{name} is empty.", "Give an id.")
    assert isinstance(coerced, str | int)
    return coerced


def _value(value: Any, kind: ColumnType, name: str) -> str | int | float | bool:
    if kind is ColumnType.TEXT and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind is ColumnType.INTEGER:
        whole = _integer(value)
        if whole is not None and whole in _INT64:
            return whole
    if kind is ColumnType.FLAG and value in (0, 1, True, False, "0", "1", "true", "false"):
        return value in (1, True, "1", "true")
    if kind is ColumnType.NUMBER and (isinstance(value, float) or (type(value) is int and value in _INT64)):
        return float(value)
    raise InputError(f"{name} is {value!r}.", f"Its declared type is {kind.value}.")


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.lstrip("-").isdigit() and value.isascii():
        return int(value)
    return None
