"""The NumPy twin of the native engine: the same plan, read literally, one record at a time.

It keeps every event that it was given and answers each read from them, so it has no state to get wrong.
Tests compare the native engine with it; nothing else uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path as File

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.keys import key_cross
from bowerbird.plan.batch import RETRACTION, ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged
from bowerbird.plan.encode import number_bits
from bowerbird.plan.functions import FunctionEvaluator
from bowerbird.plan.reference_operations import arithmetic, calendar, match
from bowerbird.plan.reference_states import (
    Counted,
    Entry,
    alive,
    answer,
    seconds_between,
    sequence_of,
    top_of,
)
from bowerbird.plan.spec import MISSING_KEY, Feature, Feed, Node, Path, Plan, Test

_COMPARISONS: dict[str, Callable[[float, list[float]], bool]] = {
    "==": lambda value, constants: value == constants[0],
    "!=": lambda value, constants: value != constants[0],
    "<": lambda value, constants: value < constants[0],
    "<=": lambda value, constants: value <= constants[0],
    ">": lambda value, constants: value > constants[0],
    ">=": lambda value, constants: value >= constants[0],
    "in": lambda value, constants: value in constants,
}


def as_number(bits: int) -> float:
    """Return the float64 of a slot's bits."""
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])


Row = list[int]
Vectors = dict[int, Numbers]


class ReferenceEngine:
    """A slow engine whose answers the native engine must equal, bit for bit."""

    def __init__(self, plan: Plan, folder: File | None = None) -> None:
        self.plan = plan
        self._functions = FunctionEvaluator(plan, folder)
        self._features = self._functions.native_plan.features
        self._attributes: dict[tuple[int, int], dict[int, int]] = {}
        self._vectors: dict[tuple[int, int], Vectors] = {}
        self._entries: dict[tuple[int, int], list[Entry]] = {}
        self._lsn = 0

    @property
    def lsn(self) -> int:
        """How many records have been applied."""
        return self._lsn

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order."""
        for at in range(len(records)):
            self._apply(records, at)

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records and answer reads between them; every feature has one row per read."""
        rows: list[dict[str, object]] = []
        for at in range(len(records) + 1):
            while len(rows) < len(reads) and reads.positions[len(rows)] == self._lsn:
                read = len(rows)
                rows.append(self._read_row(int(reads.times[read]), [int(v) for v in reads.slots[:, read]]))
            if at < len(records):
                self._apply(records, at)
        assert len(rows) == len(reads), "a read lies outside the records given"
        return self._functions.complete(_block(self._features, rows, self._lsn))

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""
        rows = []
        for candidate in [MISSING_KEY, *candidates]:
            row = [int(value) for value in request]
            row[self.plan.item_slot] = int(candidate)
            rows.append(self._read_row(time, row))
        block = _block([f for f in self._features if f.stage != "request"], rows[1:], self._lsn)
        of_request = _block([f for f in self._features if f.stage == "request"], rows[:1], self._lsn)
        whole = FeatureBlock(
            {**block.categories, **of_request.categories},
            {**block.numbers, **of_request.numbers},
            block.sequences | of_request.sequences,
            self._lsn,
            block.vectors | of_request.vectors,
        )
        return self._functions.complete(whole)

    # ---- applying records ---------------------------------------------------------------------

    def _apply(self, records: RecordBatch, at: int) -> None:
        self._lsn += 1
        marked, time = int(records.types[at]), int(records.times[at])
        if marked < 0:
            return
        type_index, sign = marked & ~RETRACTION, -1 if marked & RETRACTION else 1
        row = [int(value) for value in records.slots[:, at]]
        if self.plan.types[type_index].kind == "table":
            if sign > 0:
                self._put(type_index, row, _vectors_at(records, at))
            return
        for index, aggregate in enumerate(self.plan.aggregates):
            for feed in aggregate.feeds:
                if feed.type == type_index:
                    self._advance(index, feed, time, row, sign)

    def _put(self, table: int, row: Row, vectors: Vectors) -> None:
        slots = self.plan.types[table].slots
        if slots:
            entity, *columns = slots
            self._attributes[table, row[entity]] = {column: row[column] for column in columns}
            self._vectors[table, row[entity]] = vectors

    def _advance(self, aggregate: int, feed: Feed, time: int, row: Row, sign: int) -> None:
        parts = [self._follow(path, row) for path in feed.keys]
        value = as_number(self._follow(feed.value, row)) if feed.value else 0.0
        if MISSING_KEY in parts or math.isnan(value) or not all(self._passes(test, row) for test in feed.tests):
            return
        entry = Entry(time, value, tuple(self._follow(path, row) for path in feed.fields), sign)
        self._entries.setdefault((aggregate, _family_key(parts)), []).append(entry)

    def _follow(self, path: Path, row: Row) -> int:
        value = row[path.slot]
        for hop in path.hops:
            missing = MISSING_KEY if self.plan.slots[hop.slot].is_category else number_bits(math.nan)
            attributes = self._attributes.get((hop.table, value), {}) if value != MISSING_KEY else {}
            value = attributes.get(hop.slot, missing)
        return value

    def _passes(self, test: Test, row: Row) -> bool:
        value = self._follow(test.path, row)
        if test.numbers:
            number = as_number(value)
            return not math.isnan(number) and bool(_COMPARISONS[test.comparison](number, test.numbers))
        if test.comparison == "!=":
            return value != MISSING_KEY and value not in test.keys
        return value in test.keys

    # ---- reading ------------------------------------------------------------------------------

    def _read_row(self, time: int, row: Row) -> dict[str, object]:
        values: list[object] = []
        for node in self.plan.nodes:
            values.append(self._evaluate(node, time, row, values))
        return {feature.name: self._output(feature, time, values[feature.node]) for feature in self._features}

    def _output(self, feature: Feature, time: int, value: object) -> object:
        if feature.kind == "vector":
            return np.full(feature.width, np.nan, np.float32) if value is None else value
        if feature.kind != "sequence":
            return value
        assert isinstance(value, list)
        if self.plan.nodes[feature.node].op == "top":
            best = value[: feature.length][::-1]
            return [[each.key for each in best], [each.count for each in best]], _ages(best, time)
        fields = [
            [entry.fields[at] if field.is_category else as_number(entry.fields[at]) for entry in value]
            for at, field in enumerate(feature.fields)
        ]
        return fields, _ages(value, time)

    def _evaluate(self, node: Node, time: int, row: Row, values: list[object]) -> object:
        inputs = [values[index] for index in node.inputs]
        if node.op == "function":
            return None
        if node.op == "value":
            assert node.path is not None
            value = self._follow(node.path, row)
            return value if node.is_category else as_number(value)
        if node.op == "vector":
            assert node.path is not None
            return self._vector(node.path, row)
        if node.op in ("read", "sequence", "latest", "top"):
            return self._of_state(node, self._at_key(node, inputs, time), time)
        if node.op == "match":
            return match(node, inputs, time)
        if node.op in ("hour", "weekday"):
            return calendar(node, time)
        if node.op == "cross":
            return key_cross([int(value) for value in inputs])  # type: ignore[call-overload]
        return arithmetic(node, time, [float(value) for value in inputs])  # type: ignore[arg-type]

    def _vector(self, path: Path, row: Row) -> Numbers | None:
        *before, last = path.hops
        entity = self._follow(Path(path.slot, before), row)
        return None if entity == MISSING_KEY else self._vectors.get((last.table, entity), {}).get(last.slot)

    def _of_state(self, node: Node, entries: list[Entry], time: int) -> object:
        aggregate = self.plan.aggregates[node.aggregate]
        if node.op == "read":
            return answer(aggregate, node.what, entries, time)
        if node.op == "top":
            return top_of(aggregate, entries)
        kept = sequence_of(aggregate, entries)
        if node.op == "sequence":
            return kept
        missing = MISSING_KEY if node.is_category else number_bits(math.nan)
        value = kept[-1].fields[node.field] if kept else missing
        return value if node.is_category else as_number(value)

    def _at_key(self, node: Node, parts: list[object], time: int) -> list[Entry]:
        keys = [int(part) for part in parts]  # type: ignore[call-overload]
        if MISSING_KEY in keys:
            return []
        entries = self._entries.get((node.aggregate, _family_key(keys)), [])
        return alive(self.plan.aggregates[node.aggregate], entries, time)


def _vectors_at(records: RecordBatch, at: int) -> Vectors:
    found = {slot: (np.flatnonzero(rows == at), vectors) for slot, (rows, vectors) in records.vectors.items()}
    return {slot: vectors[places[0]] for slot, (places, vectors) in found.items() if len(places)}


def _ages(entries: list[Entry] | list[Counted], time: int) -> list[float]:
    return [seconds_between(entry.time, time) for entry in entries]


def _family_key(parts: list[int]) -> int:
    if not parts:
        return 1
    return parts[0] if len(parts) == 1 else key_cross(parts)


def _block(features: list[Feature], rows: list[dict[str, object]], lsn: int) -> FeatureBlock:
    categories: dict[str, Keys] = {}
    numbers: dict[str, Numbers] = {}
    block = FeatureBlock(categories, numbers, lsn=lsn)
    for feature in features:
        column = [row[feature.name] for row in rows]
        if feature.kind == "category":
            categories[feature.name] = np.array(column, dtype=np.uint64)
        elif feature.kind == "number":
            with np.errstate(over="ignore"):
                numbers[feature.name] = np.array(column, dtype=np.float64).astype(np.float32)
        elif feature.kind == "vector":
            vectors = np.array(column, dtype=np.float32).reshape(len(rows), feature.width)
            block.vectors[feature.name] = vectors
        else:
            block.sequences[feature.name] = _ragged(feature, column)
    return block


def _ragged(feature: Feature, column: list[object]) -> Ragged:
    ages = [age for _, age in column]  # type: ignore[misc, has-type]
    offsets = np.cumsum([0, *(len(age) for age in ages)], dtype=np.int64)
    fields: dict[str, Keys | Numbers] = {}
    for at, field in enumerate(feature.fields):
        values = [value for row in column for value in row[0][at]]  # type: ignore[index]
        fields[field.name] = np.array(values, np.uint64) if field.is_category else np.array(values, np.float32)
    return Ragged(offsets, fields, np.array([value for age in ages for value in age], dtype=np.float32))
