"""Which columns of a file a source reads, and the error that names the nearest one where they are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bowerbird.declare.columns import VectorType
from bowerbird.declare.records import Action, Event, FieldCondition, Source, Table
from bowerbird.errors import InputError
from bowerbird.log.schema import key_types
from bowerbird.plan.mistake import nearest


@dataclass(frozen=True)
class Use:
    """A raw column and what the source reads it for."""

    column: str
    purpose: str


class Layout:
    """The raw columns behind a source's declared names."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def record_columns(self) -> dict[str, str]:
        """Return declared name to raw column for the source's own record."""
        return _declared_columns(self._source.record, self._source.columns)

    def vector_columns(self) -> set[str]:
        """Return the raw columns that hold vectors."""
        types = self._source.record.columns
        return {raw for name, raw in self.record_columns().items() if isinstance(types.get(name), VectorType)}

    def action_columns(self, action: Action) -> dict[str, str]:
        """Return declared name to raw column for an action; its own mapping comes before the source's."""
        return _declared_columns(action.event, {**self._source.columns, **action.columns})

    def uses(self) -> list[Use]:
        """Return every raw column that the source reads, the first purpose of each."""
        source = self._source
        found = [Use(raw, f"maps to {name!r}") for name, raw in self.record_columns().items()]
        found += [Use(source.time.column, "has as its time")] if source.time else []
        found += [Use(source.available.column, "has as its time of arrival")] if source.available else []
        found += [Use(source.retracts, "has as the mark of what is taken back")] if source.retracts else []
        found += [Use(source.id, "has as its id")] if source.id else []
        found += [Use(column, "has in its key") for column in source.key]
        for action in source.actions:
            found += self._action_uses(action)
        first: dict[str, Use] = {}
        for use in found:
            first.setdefault(use.column, use)
        return list(first.values())

    def _action_uses(self, action: Action) -> list[Use]:
        purpose = f"reads for action {action.event.name!r}"
        names = [condition_column(action.when), *self.action_columns(action).values()]
        names += [action.time.column] if action.time else []
        names += [action.after[0]] if action.after else []
        return [Use(name, purpose) for name in names]

    def check(self, file: str, columns: Sequence[str]) -> list[str]:
        """Return the raw columns to read; raises InputError for one that ``file`` does not have once."""
        for use in self.uses():
            if columns.count(use.column) == 1:
                continue
            how = "has no column" if use.column not in columns else "has more than one column"
            raise InputError(
                f"{file} {how} {use.column!r}, which source {self._source.name!r} {use.purpose}.",
                f"Correct the source's columns. {nearest(use.column, columns)}",
            )
        return [use.column for use in self.uses()]


def condition_column(when: str | FieldCondition) -> str:
    """Return the raw column that an action's condition reads."""
    return when if isinstance(when, str) else when.column


def _declared_columns(record: Event | Table, mapping: Mapping[str, str]) -> dict[str, str]:
    return {name: mapping.get(name, name) for name in (*key_types(record), *record.columns)}
