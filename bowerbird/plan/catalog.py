"""The names of a project: which slots its records fill, and how a key is reached from a record."""

from __future__ import annotations

from typing import overload

from bowerbird.declare.columns import ColumnRef, ColumnType, Entity, KeyPart, Location, PlainType, VectorType
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, EventColumn, Table, TableColumn
from bowerbird.plan.mistake import Mistake, nearest
from bowerbird.plan.spec import Hop, Path, RecordType, Slot, Stage


@overload
def plain_type(column: EventColumn) -> ColumnType: ...
@overload
def plain_type(column: TableColumn) -> PlainType: ...
def plain_type(column: TableColumn) -> PlainType:
    """Return the type of a column's values: an entity column holds its ids."""
    return column.id if isinstance(column, Entity) else column


class Catalog:
    """Slots are given out as expressions ask for them, so that a plan carries only what it reads."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.records: dict[str, Event | Table] = {record.name: record for record in project.record_types}
        self.type_index = {name: index for index, name in enumerate(self.records)}
        self.slots: list[Slot] = []
        self._slot_index: dict[str, int] = {}
        self.slot_named(project.user.name, project.user.id)
        self.slot_named(project.item.name, project.item.id)

    def slot_named(self, name: str, column_type: PlainType, column: str = "") -> int:
        """Return the index of a slot, made on first use; ``column`` where it is not the slot's name."""
        if name not in self._slot_index:
            width = column_type.width if isinstance(column_type, VectorType) else 0
            self._slot_index[name] = len(self.slots)
            self.slots.append(Slot(name, column_type.value, column, width))
        return self._slot_index[name]

    def bias_slot(self, ref: ColumnRef, location: Location) -> int:
        """Return the slot of an exposure's column as serving fixes it; raises Mistake."""
        exposure = self.project.exposure
        if not isinstance(ref, ColumnRef) or ref.of_table or ref.owner != exposure.name:
            raise Mistake(
                location,
                f"{getattr(ref, 'column', ref)!r} is not a column of {exposure.name!r}.",
                f'A bias input is one: write `{exposure.name}["position"]`.',
            )
        return self.slot_named(_bias_name(ref.column), self.column_type(ref), ref.column)

    def record_types(self) -> list[RecordType]:
        """Return every record type with the slots in use that it fills."""
        return [self._record_type(record) for record in self.records.values()]

    def _record_type(self, record: Event | Table) -> RecordType:
        slots = [self._slot_index[name] for name in self._slot_names(record) if name in self._slot_index]
        if isinstance(record, Table):
            return RecordType(record.name, "table", slots)
        return RecordType(record.name, "exposure" if record is self.project.exposure else "event", slots)

    def _slot_names(self, record: Event | Table) -> list[str]:
        if isinstance(record, Table):
            return [record.entity.name, *(f"{record.name}.{column}" for column in record.columns)]
        names = [*(entity.name for entity in record.entities), *record.columns]
        return names + [_bias_name(column) for column in record.columns if record is self.project.exposure]

    def path(self, part: KeyPart, record: Event, location: Location) -> Path:
        """Return how a key part is reached from a record of an event type; raises Mistake."""
        if isinstance(part, Entity):
            return self._entity_path(part, record, location)
        if isinstance(part, ColumnRef):
            return self._column_path(part, record, location)
        raise Mistake(
            location, f"{part!r} is not a key.", 'Give an entity or a column such as `videos["tag"]`.'
        )

    def _entity_path(self, entity: Entity, record: Event, location: Location) -> Path:
        if any(entity.name == owned.name for owned in record.entities):
            return Path(self.slot_named(entity.name, entity.id))
        for column, column_type in record.columns.items():
            if isinstance(column_type, Entity) and column_type.name == entity.name:
                return Path(self.slot_named(column, entity.id))
        found = [
            (table, column)
            for table in self.project.tables
            for column, column_type in table.columns.items()
            if isinstance(column_type, Entity)
            and column_type.name == entity.name
            and any(table.entity.name == owned.name for owned in record.entities)
        ]
        if len(found) == 1:
            table, column = found[0]
            return self._attribute_path(table, column, record, location)
        if found:
            choices = " or ".join(f'{table.name}["{column}"]' for table, column in found)
            raise Mistake(
                location,
                f"{entity.name!r} is reached in several ways from {record.name!r}.",
                f"Write {choices}.",
            )
        raise Mistake(
            location,
            f"{record.name!r} has no entity {entity.name!r}.",
            nearest(entity.name, [owned.name for owned in record.entities]),
        )

    def _attribute_path(self, table: Table, column: str, record: Event, location: Location) -> Path:
        base = self._entity_path(table.entity, record, location)
        slot = self.slot_named(f"{table.name}.{column}", plain_type(table.columns[column]))
        self.slot_named(table.entity.name, table.entity.id)
        return Path(base.slot, [*base.hops, Hop(self.type_index[table.name], slot)])

    def _column_path(self, ref: ColumnRef, record: Event, location: Location) -> Path:
        self.column_type(ref)
        if ref.of_table:
            table = self.records[ref.owner]
            assert isinstance(table, Table)
            return self._attribute_path(table, ref.column, record, location)
        if ref.column not in record.columns:
            raise Mistake(
                location,
                f"{record.name!r} has no column {ref.column!r}, which {ref.owner!r} has.",
                f"Add it to {record.name!r}, or use another column. " + nearest(ref.column, record.columns),
            )
        declared = plain_type(record.columns[ref.column])
        if declared is not self.column_type(ref):
            raise Mistake(
                location,
                f"Column {ref.column!r} is {declared.value} in {record.name!r} and "
                f"{self.column_type(ref).value} in {ref.owner!r}.",
                "Give both the same type.",
            )
        return Path(self.slot_named(ref.column, declared))

    def column(self, ref: ColumnRef) -> TableColumn:
        """Return a referenced column's declaration; raises Mistake with the nearest right name."""
        owner = self.records.get(ref.owner)
        if owner is None or isinstance(owner, Table) is not ref.of_table:
            raise Mistake(
                ref.location,
                f"{ref.owner!r} is not part of the project.",
                "Add it to `Project(events=…, tables=…)`. " + nearest(ref.owner, self.records),
            )
        if ref.column not in owner.columns:
            raise Mistake(
                ref.location,
                f"{ref.owner!r} has no column {ref.column!r}.",
                nearest(ref.column, owner.columns),
            )
        return owner.columns[ref.column]

    def column_type(self, ref: ColumnRef) -> PlainType:
        """Return the plain type of a referenced column; raises Mistake."""
        return plain_type(self.column(ref))

    def part_type(self, part: KeyPart) -> PlainType:
        """Return the type of a key part's values; raises Mistake."""
        return part.id if isinstance(part, Entity) else self.column_type(part)

    def vocabulary(self, part: KeyPart) -> str:
        """Return the name of the set of values that a key part takes: shared by what shares embeddings."""
        if isinstance(part, Entity):
            return part.name
        column = self.column(part)
        if isinstance(column, Entity):
            return column.name
        return f"{part.owner}.{part.column}" if part.of_table else part.column

    def name(self, part: KeyPart) -> str:
        """Return the name of a key part as titles and fingerprints show it."""
        if isinstance(part, Entity):
            return part.name
        return f"{part.owner}.{part.column}" if part.of_table else part.column

    def stage(self, path: Path) -> Stage:
        """Return *item* for what the candidate leads to, else *request*."""
        return "item" if self.slots[path.slot].name == self.project.item.name else "request"


def _bias_name(column: str) -> str:
    return f"{column}:bias"
