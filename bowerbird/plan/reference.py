"""The NumPy twin of the native engine: the same plan, read literally, one record at a time.

It keeps every record that it was given and answers each read from them, so it has no state to get wrong.
Tests compare the native engine with it; nothing else uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.keys import key_cross, key_integer
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged
from bowerbird.plan.encode import number_bits
from bowerbird.plan.spec import MISSING_KEY, Aggregate, Feature, Feed, Node, Path, Plan, Test

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_LIMIT = 2.0**53
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


@dataclass(frozen=True)
class _Entry:
    """One event in one key's aggregate."""

    time: int
    value: float
    fields: list[int]


Row = list[int]
Entries = dict[tuple[int, int], list[_Entry]]


class ReferenceEngine:
    """A slow engine whose answers the native engine must equal, bit for bit."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._attributes: dict[tuple[int, int], dict[int, int]] = {}
        self._entries: Entries = {}
        self._lsn = 0

    @property
    def lsn(self) -> int:
        """How many records have been applied."""
        return self._lsn

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order."""
        for at in range(len(records)):
            row = [int(value) for value in records.slots[:, at]]
            self._apply(int(records.types[at]), int(records.times[at]), row)

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records and answer reads between them; every feature has one row per read."""
        rows: list[dict[str, object]] = []
        for at in range(len(records) + 1):
            while len(rows) < len(reads) and reads.positions[len(rows)] == self._lsn:
                read = len(rows)
                rows.append(self._read_row(int(reads.times[read]), [int(v) for v in reads.slots[:, read]]))
            if at < len(records):
                row = [int(value) for value in records.slots[:, at]]
                self._apply(int(records.types[at]), int(records.times[at]), row)
        assert len(rows) == len(reads), "a read lies outside the records given"
        return _block(self.plan.features, rows, self._lsn)

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""
        rows = []
        for candidate in [MISSING_KEY, *candidates]:
            row = [int(value) for value in request]
            row[self.plan.item_slot] = int(candidate)
            rows.append(self._read_row(time, row))
        block = _block([f for f in self.plan.features if f.stage != "request"], rows[1:], self._lsn)
        of_request = _block([f for f in self.plan.features if f.stage == "request"], rows[:1], self._lsn)
        return FeatureBlock(
            block.categories | of_request.categories,
            block.numbers | of_request.numbers,
            block.sequences | of_request.sequences,
            self._lsn,
        )

    # ---- applying records ---------------------------------------------------------------------

    def _apply(self, type_index: int, time: int, row: Row) -> None:
        self._lsn += 1
        if type_index < 0:
            return
        record_type = self.plan.types[type_index]
        if record_type.kind == "table":
            if record_type.slots:
                entity, *columns = record_type.slots
                self._attributes[type_index, row[entity]] = {column: row[column] for column in columns}
            return
        for index, aggregate in enumerate(self.plan.aggregates):
            for feed in aggregate.feeds:
                if feed.type == type_index:
                    self._advance(index, feed, time, row)

    def _advance(self, aggregate: int, feed: Feed, time: int, row: Row) -> None:
        parts = [self._follow(path, row) for path in feed.keys]
        value = as_number(self._follow(feed.value, row)) if feed.value else 0.0
        if (
            MISSING_KEY in parts
            or math.isnan(value)
            or not all(self._passes(test, row) for test in feed.tests)
        ):
            return
        entry = _Entry(time, value, [self._follow(path, row) for path in feed.fields])
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
        return {
            feature.name: self._output(feature, time, values[feature.node]) for feature in self.plan.features
        }

    def _output(self, feature: Feature, time: int, value: object) -> object:
        if feature.kind != "sequence":
            return value
        assert isinstance(value, list)
        ages = [_seconds(entry.time, time) for entry in value]
        fields = [
            [entry.fields[at] if field.is_category else as_number(entry.fields[at]) for entry in value]
            for at, field in enumerate(feature.fields)
        ]
        return fields, ages

    def _evaluate(self, node: Node, time: int, row: Row, values: list[object]) -> object:
        inputs = [values[index] for index in node.inputs]
        if node.op == "value":
            assert node.path is not None
            value = self._follow(node.path, row)
            return value if node.is_category else as_number(value)
        if node.op in ("read", "sequence"):
            entries = self._at_key(node, inputs)
            aggregate = self.plan.aggregates[node.aggregate]
            return (
                entries[-aggregate.length :]
                if node.op == "sequence"
                else _aggregate(aggregate, node.what, entries, time)
            )
        if node.op == "match":
            return _match(node, inputs, time)
        if node.op in ("hour", "weekday"):
            return _calendar(node, time)
        if node.op == "cross":
            return key_cross([int(value) for value in inputs])  # type: ignore[call-overload]
        return _arithmetic(node, time, [float(value) for value in inputs])  # type: ignore[arg-type]

    def _at_key(self, node: Node, parts: list[object]) -> list[_Entry]:
        keys = [int(part) for part in parts]  # type: ignore[call-overload]
        if MISSING_KEY in keys:
            return []
        return self._entries.get((node.aggregate, _family_key(keys)), [])


def _family_key(parts: list[int]) -> int:
    if not parts:
        return 1
    return parts[0] if len(parts) == 1 else key_cross(parts)


def _seconds(earlier: int, later: int) -> float:
    return max(0, later - earlier) / _SECOND


def _fixed_point(value: float, scale: int) -> int:
    return round(min(max(value * scale, -_LIMIT), _LIMIT))


def _aggregate(aggregate: Aggregate, what: str, entries: list[_Entry], time: int) -> float:
    if aggregate.kind == "last":
        return _seconds(max(entry.time for entry in entries), time) if entries else math.nan
    if aggregate.kind == "decayed":
        count, total = _decayed(aggregate, entries, time)
    else:
        inside = entries if aggregate.kind == "total" else _within(aggregate, entries, time)
        count = float(len(inside))
        total = sum(_fixed_point(entry.value, aggregate.scale) for entry in inside) / aggregate.scale
    if what == "mean":
        return total / count if count > 0 else math.nan
    return count if what == "count" else total


def _within(aggregate: Aggregate, entries: list[_Entry], time: int) -> list[_Entry]:
    """Return the entries of the window's tiles, less those that had left every window when a newer tile opened."""
    reach = aggregate.window // aggregate.tile
    kept: list[_Entry] = []
    newest: int | None = None
    for entry in entries:
        tile = entry.time // aggregate.tile
        if newest is not None and tile <= newest - reach:
            continue
        if newest is None or tile > newest:
            newest = tile
            kept = [old for old in kept if old.time // aggregate.tile > tile - reach]
        kept.append(entry)
    last = time // aggregate.tile
    return [entry for entry in kept if last - reach < entry.time // aggregate.tile <= last]


def _decayed(aggregate: Aggregate, entries: list[_Entry], time: int) -> tuple[float, float]:
    count = total = 0.0
    at = 0
    for entry in entries:
        if entry.time >= at:
            kept = math.exp2(-(entry.time - at) / aggregate.half_life) if at else 0.0
            count, total, at = count * kept + 1.0, total * kept + entry.value, entry.time
        else:
            late = math.exp2(-(at - entry.time) / aggregate.half_life)
            count, total = count + late, total + late * entry.value
    factor = math.exp2(-(time - at) / aggregate.half_life) if time > at else 1.0
    return count * factor, total * factor


def _match(node: Node, inputs: list[object], time: int) -> float:
    entries, wanted = inputs
    assert isinstance(entries, list)
    found = [entry for entry in entries if entry.fields[node.field] == wanted and wanted != MISSING_KEY]
    if node.what == "count":
        return float(len(found))
    if node.what == "fraction":
        return len(found) / len(entries) if entries else math.nan
    return _seconds(max(entry.time for entry in found), time) if found else math.nan


def _calendar(node: Node, time: int) -> int:
    at = max(0, int(np.searchsorted(node.instants, time, side="right")) - 1)
    hours = (time + node.offsets[at]) // _HOUR
    return key_integer(hours % 24 if node.op == "hour" else (hours // 24 + 3) % 7)


def _arithmetic(node: Node, time: int, inputs: list[float]) -> float | int:
    value = inputs[0]
    if node.op == "rate":
        prior, strength = node.numbers
        below = inputs[1] + strength
        return (value + prior * strength) / below if below > 0 else math.nan
    if node.op == "ratio":
        return math.nan if inputs[1] == 0 else value / inputs[1]
    if node.op == "difference":
        return value - inputs[1]
    if node.op == "log1p":
        return -math.log1p(-value) if value < 0 else math.log1p(value)
    if node.op == "clip":
        low, high = node.numbers
        return value if math.isnan(value) else min(max(value, low), high)
    if node.op == "affine":
        return (value - node.numbers[0]) / node.numbers[1]
    if node.op == "age":
        return time / _SECOND - value
    assert node.op == "bucketise", node.op
    return (
        MISSING_KEY
        if math.isnan(value)
        else key_integer(int(np.searchsorted(node.numbers, value, side="right")))
    )


def _block(features: list[Feature], rows: list[dict[str, object]], lsn: int) -> FeatureBlock:
    block = FeatureBlock(lsn=lsn)
    for feature in features:
        column = [row[feature.name] for row in rows]
        if feature.kind == "category":
            block.categories[feature.name] = np.array(column, dtype=np.uint64)
        elif feature.kind == "number":
            block.numbers[feature.name] = np.array(column, dtype=np.float64).astype(np.float32)
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
