"""Engines that execute a plan: the native one, and its NumPy twin for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.spec import Feature, Plan


@dataclass(frozen=True)
class Usage:
    """How much state an engine holds: keys and bytes by family, bytes by table."""

    family_keys: dict[str, int]
    family_bytes: dict[str, int]
    table_bytes: dict[str, int]


class Engine(Protocol):
    """What executes a plan. Reads see the records applied before them; see docs/design.md."""

    plan: Plan

    @property
    def lsn(self) -> int:
        """How many records have been applied."""

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order."""

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records and answer reads between them; every feature has one row per read."""

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""


class NativeEngine:
    """The C++ engine. Thread-safe: ``apply`` excludes reads, reads run side by side without the GIL."""

    def __init__(self, plan: Plan) -> None:
        if plan.fits:
            raise InputError(
                f"The plan of {plan.project!r} has {len(plan.fits)} unfitted transforms.",
                "Fit it on the log first.",
            )
        self.plan = plan
        self._native = _native.Engine(msgspec.to_builtins(plan))
        self._request = [feature for feature in plan.features if feature.stage == "request"]
        self._candidate = [feature for feature in plan.features if feature.stage != "request"]

    @property
    def lsn(self) -> int:
        """How many records have been applied."""
        return int(self._native.lsn)

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order."""
        self._native.apply(records.types, records.times, records.slots)

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records and answer reads between them; every feature has one row per read."""
        columns = self._native.replay(
            records.types, records.times, records.slots, reads.positions, reads.times, reads.slots
        )
        block = FeatureBlock(lsn=self.lsn)
        _fill(block, self.plan.features, columns)
        return block

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""
        lsn, of_request, of_candidates = self._native.read(time, request, candidates)
        block = FeatureBlock(lsn=lsn)
        _fill(block, self._request, of_request)
        _fill(block, self._candidate, of_candidates)
        return block

    def usage(self) -> Usage:
        """Return the state's size."""
        keys, sizes, tables = self._native.usage()
        families = [family.name for family in self.plan.families]
        return Usage(
            dict(zip(families, keys, strict=True)),
            dict(zip(families, sizes, strict=True)),
            {t.name: size for t, size in zip(self.plan.types, tables, strict=True) if t.kind == "table"},
        )


def build_engine(plan: Plan) -> NativeEngine:
    """Return an empty native engine for a fitted plan."""
    return NativeEngine(plan)


def _fill(block: FeatureBlock, features: list[Feature], columns: Any) -> None:
    """Put native columns, which stand in plan order within each kind, under their features' names."""
    categories, numbers, sequences = columns
    category, number, sequence = iter(categories), iter(numbers), iter(sequences)
    for feature in features:
        if feature.kind == "category":
            block.categories[feature.name] = next(category)
        elif feature.kind == "number":
            block.numbers[feature.name] = next(number)
        else:
            block.sequences[feature.name] = _ragged(feature, next(sequence))


def _ragged(feature: Feature, parts: Any) -> Ragged:
    offsets, keys, numbers, age = parts
    key, number = iter(keys), iter(numbers)
    fields = {field.name: next(key) if field.is_category else next(number) for field in feature.fields}
    return Ragged(offsets, fields, age)
