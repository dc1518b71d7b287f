"""Keeping forgotten users from coming back with old records, from files and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from bowerbird.declare.workspace import Workspace
from bowerbird.log.erasure.personal import personal_columns, raw_columns
from bowerbird.log.erasure.record import Erasures
from bowerbird.log.schema import TIME


class Forgotten:
    """The erasures of a workspace, asked about records; costs nothing where there was none."""

    def __init__(self, workspace: Workspace) -> None:
        project = workspace.project
        self._erasures = Erasures(workspace.data_folder)
        self._owners = {record.name: personal_columns(record, project.user).owner for record in project.record_types}
        self._raw_columns = raw_columns(project) if len(self._erasures) else set()

    def without(self, type_name: str, table: pa.Table) -> pa.Table:
        """Return a type's canonical records without those that were to be forgotten."""
        owner = self._owners[type_name]
        if owner is None or not len(self._erasures):
            return table
        covered = self._erasures.of_table(table, owner)
        return table.filter(pa.array(~covered)) if covered.any() else table

    def named_in(self, raw: Mapping[str, Any]) -> bool:
        """Return whether a raw row or event names a user who was forgotten, whenever it happened."""
        return any(self._erasures.covers(raw[name], 0) for name in self._raw_columns if raw.get(name) is not None)

    def covers(self, event: Mapping[str, Any]) -> bool:
        """Return whether a live record (as ``validate_event`` returns it) was to be forgotten."""
        if not len(self._erasures):
            return False
        owner = self._owners[event["_type"]]
        return owner is not None and self._erasures.covers(event[owner], event[TIME])
