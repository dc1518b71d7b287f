"""Where one user's id stands in each record type: as whose record it is, or as a value of somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bowerbird.declare.columns import Entity
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, Table
from bowerbird.log.schema import key_types
from bowerbird.log.sources.layout import Layout

Id = str | int


@dataclass(frozen=True)
class Personal:
    """A record type's column that says whose record it is (if any), and columns that name users beside."""

    owner: str | None
    mentions: list[str]

    def owns(self, record: Mapping[str, Any], identifier: Id) -> bool:
        """Return whether a record is that user's."""
        return self.owner is not None and record.get(self.owner) == identifier


def personal_columns(record: Event | Table, user: Entity) -> Personal:
    """Return where a record type names users."""
    owner = user.name if user.name in key_types(record) else None
    named = [name for name, kind in record.columns.items() if isinstance(kind, Entity) and kind.name == user.name]
    return Personal(owner, [name for name in named if name != owner])


def raw_columns(project: Project) -> set[str]:
    """Return the names under which raw rows and live events give users."""
    names = {project.user.name}
    for source in project.sources:
        layout = Layout(source)
        mappings = [(source.record, layout.record_columns())]
        mappings += [(action.event, layout.action_columns(action)) for action in source.actions]
        for record, columns in mappings:
            personal = personal_columns(record, project.user)
            names |= {columns.get(name, name) for name in (personal.owner, *personal.mentions) if name is not None}
    return names
