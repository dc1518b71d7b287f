"""Recall's part of the live state: items by id, neighbour indexes, and reads of the recall plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bowerbird.declare.project import Project
from bowerbird.declare.records import Table
from bowerbird.recall.items import Id, ItemCatalog
from bowerbird.recall.neighbours import MANIFEST, NeighbourIndex


class ItemFeed:
    """Adds the items of new events and table rows to a catalog."""

    def __init__(self, project: Project, items: ItemCatalog) -> None:
        self._items = items
        self._item = project.item.name
        self._types = {record.name for record in project.record_types if _names_item(record, project)}

    def apply(self, events: Sequence[Mapping[str, Any]]) -> list[Id]:
        """Add the items of normalised records, and return those that are new."""
        return self._items.add(event[self._item] for event in events if event["_type"] in self._types)


def item_record_types(project: Project) -> list[str]:
    """Return the record types that name an item."""
    return [record.name for record in project.record_types if _names_item(record, project)]


def _names_item(record: Any, project: Project) -> bool:
    entities = [record.entity] if isinstance(record, Table) else record.entities
    return any(entity.name == project.item.name for entity in entities)


def load_indexes(folder: Path) -> dict[str, NeighbourIndex]:
    """Return the latest index of each channel in ``<folder>/<channel>/<number>``; raises CorruptionError."""
    indexes = {}
    for channel in sorted(folder.iterdir()) if folder.is_dir() else []:
        numbers = sorted(
            int(each.name) for each in channel.iterdir() if (each / MANIFEST).is_file() and each.name.isdigit()
        )
        if numbers:
            indexes[channel.name] = NeighbourIndex.load(channel / str(numbers[-1]))
    return indexes
