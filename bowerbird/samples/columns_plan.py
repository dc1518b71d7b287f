"""The plan of ready-made columns: every feature is a value that a request gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from bowerbird.errors import InputError
from bowerbird.plan.spec import (
    GIVEN_PREFIX,
    Aggregate,
    Family,
    Feature,
    Feed,
    Hop,
    Node,
    Path,
    Plan,
    RecordType,
    SequenceField,
    Slot,
    Stage,
)
from bowerbird.samples.columns import CategoryType, FeatureColumn, ReadyColumns

_USER, _ITEM = 0, 1


@dataclass(frozen=True)
class ReadyNames:
    """What a plan of ready-made columns takes from the project that serves it.

    Its name, its exposure's name, and the types of ``user`` and ``item`` where it declares them.
    """

    project: str = "columns"
    exposure: str = "exposure"
    entity_types: Mapping[str, str] = field(default_factory=dict)


class ReadyPlan:
    """Builds a plan from a declaration and the tables' schema.

    A category or number is a slot of the exposure, so that a request can give it; the user's and the item's own columns
    are the request's. A sequence is of events that never occur, and a vector of a table that holds nothing: the request
    gives them, too.
    """

    def __init__(self, columns: ReadyColumns, schema: pa.Schema, names: ReadyNames) -> None:
        self._columns = columns
        self._schema = schema
        self._project = names
        self.types: dict[str, CategoryType] = {}
        """The type of each category's column, sequences' fields included."""
        self._slots = [Slot(name, self._entity_type(name), getattr(columns, name)) for name in ("user", "item")]
        self._nodes: list[Node] = []
        self._unlogged: list[RecordType] = []
        self._aggregates: list[Aggregate] = []
        self._vocabularies: dict[str, tuple[CategoryType, str]] = {}
        self._context = [_USER, _ITEM]

    def build(self) -> Plan:
        """Return the plan; raises InputError for a column of another type than its feature's."""
        features = [self._feature(name, feature) for name, feature in self._columns.features.items()]
        return Plan(
            project=self._project.project,
            slots=self._slots,
            types=[RecordType(self._project.exposure, "exposure", self._context), *self._unlogged],
            families=[Family("user", ["user"])] if self._aggregates else [],
            aggregates=self._aggregates,
            nodes=self._nodes,
            features=features,
            item_slot=_ITEM,
            user_slot=_USER,
        )

    def _entity_type(self, name: str) -> str:
        """Return the type of the user's or the item's ids, which must be the project's."""
        column = getattr(self._columns, name)
        wanted = self._project.entity_types.get(name)
        if not column:
            return wanted or "text"
        found = self._category_type(column, self._columns.type_of_entity(name))
        if wanted not in (None, found):
            raise InputError(
                f"Column {column!r} holds {found}, but the project's {name} is {wanted}: requests would never meet it.",
                f'Declare {name}_type = "{wanted}", or cast the column.',
            )
        return found

    def _feature(self, name: str, feature: FeatureColumn) -> Feature:
        if feature.kind == "sequence":
            return self._sequence(name, feature)
        column = feature.column or name
        stage: Stage = "request" if feature.per == "request" else "pair"
        if feature.kind == "category":
            return self._category(name, column, feature, stage)
        if feature.kind == "vector":
            return self._vector(name, column, feature)
        self._require_number(column)
        node = self._add_node("value", stage, path=self._add_slot(name, Slot(name, "number", column)))
        return Feature(name, "number", stage, node)

    def _vector(self, name: str, column: str, feature: FeatureColumn) -> Feature:
        """Return a vector as an attribute of the user or the item, in a table that holds none."""
        width = self._width(name, column, feature)
        stage: Stage = "request" if feature.per == "request" else "item"
        entity = _USER if feature.per == "request" else _ITEM
        record = f"{GIVEN_PREFIX}{name}"
        self._slots.append(Slot(f"{record}.{name}", "vector", name, width))
        slot = len(self._slots) - 1
        self._unlogged.append(RecordType(record, "table", [entity, slot]))
        path = Path(entity, [Hop(len(self._unlogged), slot)])
        return Feature(name, "vector", stage, self._add_node("vector", stage, path=path), width=width)

    def _category(self, name: str, column: str, feature: FeatureColumn, stage: Stage) -> Feature:
        kind = self._category_type(column, feature.type)
        vocabulary = feature.vocabulary or name
        self._share(vocabulary, kind, column)
        if column == self._columns.user:
            path, stage = Path(_USER), "request"
        elif column == self._columns.item:
            path, stage = Path(_ITEM), "item"
        else:
            path = self._add_slot(name, Slot(name, kind, column))
        node = self._add_node("value", stage, is_category=True, path=path)
        return Feature(name, "category", stage, node, vocabulary=vocabulary)

    def _sequence(self, name: str, feature: FeatureColumn) -> Feature:
        fields, places = [], []
        for field_name, declared in feature.fields.items():
            vocabulary, slot_type = "", "number"
            if declared.kind == "category":
                vocabulary = declared.vocabulary or f"{name}.{field_name}"
                slot_type = kind = self._category_type(declared.column, declared.type, lists=True)
                self._share(vocabulary, kind, declared.column)
            places.append(Path(len(self._slots)))
            self._slots.append(Slot(f"{name}.{field_name}", slot_type, field_name))
            fields.append(SequenceField(field_name, declared.kind == "category", vocabulary))
        user = self._add_node("value", "request", is_category=True, path=Path(_USER))
        aggregate = self._add_aggregate(name, feature.length, places)
        node = self._add_node("sequence", "request", inputs=[user], aggregate=aggregate)
        return Feature(name, "sequence", "request", node, length=feature.length, fields=fields)

    def _add_aggregate(self, name: str, length: int, fields: list[Path]) -> int:
        """Add the sequence of a user's events, of a type that never occurs; its fields' slots say their types."""
        self._unlogged.append(RecordType(f"{GIVEN_PREFIX}{name}", "event", [_USER, *(path.slot for path in fields)]))
        feed = Feed(len(self._unlogged), [Path(_USER)], fields=fields)
        described = f"{GIVEN_PREFIX}{name}:{length}:{','.join(self._slots[path.slot].type for path in fields)}"
        self._aggregates.append(
            Aggregate("sequence", 0, [feed], described, f"{name}, as given", length=length, fields=len(fields))
        )
        return len(self._aggregates) - 1

    def _add_slot(self, name: str, slot: Slot) -> Path:
        taken = [each.name for each in self._slots]
        self._slots.append(slot if name not in taken else Slot(f"feature.{name}", slot.type, slot.column, slot.width))
        self._context.append(len(self._slots) - 1)
        return Path(len(self._slots) - 1)

    def _add_node(
        self, op: str, stage: Stage, *, is_category: bool = False, path: Path | None = None,
        inputs: list[int] | None = None, aggregate: int = -1,
    ) -> int:  # fmt: skip
        self._nodes.append(Node(op, stage, is_category, inputs or [], path, aggregate))
        return len(self._nodes) - 1

    def _category_type(self, column: str, declared: CategoryType | None, lists: bool = False) -> CategoryType:
        found = self._schema.field(column).type
        if lists and (pa.types.is_list(found) or pa.types.is_large_list(found)):
            found = found.value_type
        kind = declared or _type_of(found)
        if kind is None:
            raise InputError(
                f"Column {column!r} is {found}, which is not a category's type.",
                'Declare it as a number, or give type = "integer" where its values are whole.',
            )
        self.types[column] = kind
        return kind

    def _share(self, vocabulary: str, kind: CategoryType, column: str) -> None:
        known, first = self._vocabularies.setdefault(vocabulary, (kind, column))
        if known != kind:
            raise InputError(
                f"Vocabulary {vocabulary!r} holds {known} in column {first!r} and {kind} in {column!r}: "
                "their keys would never meet.",
                "Give both the same type.",
            )

    def _require_number(self, column: str) -> None:
        found = self._schema.field(column).type
        numeric = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found)
        if not (numeric or pa.types.is_boolean(found)):
            raise InputError(f"Column {column!r} is {found}, not a number.", "Declare it as a category, or cast it.")

    def _width(self, name: str, column: str, feature: FeatureColumn) -> int:
        found = self._schema.field(column).type
        if pa.types.is_fixed_size_list(found):
            if feature.width not in (0, found.list_size):
                raise InputError(
                    f"Vector {name!r} is declared with {feature.width} numbers and has {found.list_size}.",
                    "Correct its width.",
                )
            return int(found.list_size)
        if not (pa.types.is_list(found) or pa.types.is_large_list(found)):
            raise InputError(f"Column {column!r} is {found}, not a vector.", "Write it as a Parquet column of lists.")
        if feature.width < 1:
            raise InputError(f"Vector {name!r} has no width.", "Give the number of its values: width = 64.")
        return feature.width


def _type_of(found: pa.DataType) -> CategoryType | None:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return "text"
    if pa.types.is_integer(found):
        return "integer"
    return "flag" if pa.types.is_boolean(found) else None
