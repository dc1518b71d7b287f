"""The read side of a plan over one or several states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock, Numbers, Ragged
from bowerbird.plan.bulk import running
from bowerbird.plan.columns import ColumnLayout, Columns
from bowerbird.plan.functions import FunctionCost, FunctionEvaluator
from bowerbird.plan.parts import PartColumns, PartSequence
from bowerbird.plan.spec import Feature, Plan
from bowerbird.plan.state import FeatureState

_PARTS = {"sum": "sum", "mean": "sum", "std": "squares", "min": "minimum", "max": "maximum"}
"""By what a node reads: the part that its aggregate must keep."""


class PlanReader:
    """Reads a plan's features where its aggregates and attributes are: in one state or in several, at one position."""

    def __init__(self, plan: Plan, states: Sequence[FeatureState], folder: Path | None = None) -> None:
        _check_parts(plan)
        self.plan = plan
        self.states = list(states)
        self._functions = FunctionEvaluator(plan, folder)
        self._read_plan = self._functions.native_plan
        self.program = _native.Program(msgspec.to_builtins(self._read_plan), [state.native for state in states])
        self._every = _Columns(self._read_plan.features)
        self._kept = _Columns([feature for feature in self._read_plan.features if feature.kind != "sequence"])
        self._live = _LiveColumns(self._read_plan)

    @property
    def function_costs(self) -> dict[str, FunctionCost]:
        """What each user's function has cost so far, by feature."""
        return self._functions.costs

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""
        return self._functions.complete(self._live.block(*self.program.read(time, request, candidates)))

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records to the only state and answer reads between them; every feature has one row per read."""
        lsn = self.states[0].lsn + len(records)
        return self.block(self._run(self.program.replay, records, reads), lsn)

    def block(self, columns: Any, lsn: int) -> FeatureBlock:
        """Return native columns of a replay as features, users' functions computed."""
        return self._functions.complete(self._every.block(columns, lsn))

    def replay_part(self, records: RecordBatch, reads: ReadBatch) -> PartColumns:
        """Apply records to one partition's state and return what its keys give to the reads."""
        part = self._run(self.program.replay_part, records, reads)
        sequences = [feature for feature in self._read_plan.features if feature.kind == "sequence"]
        return PartColumns(
            part["owned"],
            part["nodes"],
            part["values"],
            [
                PartSequence(sequences[feature].name, locate, _ragged(sequences[feature], parts))
                for feature, locate, parts in part["sequences"]
            ],
        )

    def finish(
        self, values: npt.NDArray[np.uint64], times: npt.NDArray[np.int64], sequences: dict[str, Ragged]
    ) -> FeatureBlock:
        """Return the features of joined node values uint64 [nodes, rows], read at ``times``."""
        categories, numbers, _, vectors = self.program.finish(values, times)
        block = self._kept.block((categories, numbers, (), vectors), -1)
        return self._functions.complete(replace(block, sequences=sequences))

    def _run(self, replay: Any, records: RecordBatch, reads: ReadBatch) -> Any:
        vectors = [(slot, rows, values) for slot, (rows, values) in records.vectors.items()]
        return running(
            replay, records.types, records.times, records.slots, vectors, reads.positions, reads.times, reads.slots
        )


def _check_parts(plan: Plan) -> None:
    """Refuse a plan that reads what its aggregates do not keep: those of version 0.1 did not say what they keep."""
    for node in plan.nodes:
        part = _PARTS.get(node.what) if node.op == "read" else None
        if part is not None and part not in plan.aggregates[node.aggregate].parts:
            raise InputError(
                f"The plan of {plan.project!r} reads a {node.what} of an aggregate that keeps no {part}.",
                "It is of an older Bowerbird: make samples, train and publish again.",
            )


class _Columns:
    """Features whose native columns stand in plan order within each kind."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.categories = [feature.name for feature in features if feature.kind == "category"]
        self.numbers = [feature.name for feature in features if feature.kind == "number"]
        self._sequences = [feature for feature in features if feature.kind == "sequence"]
        self._vectors = [feature for feature in features if feature.kind == "vector"]

    def block(self, columns: Any, lsn: int) -> FeatureBlock:
        """Return native columns under their features' names."""
        categories, numbers, sequences, vectors = columns
        return FeatureBlock(
            dict(zip(self.categories, categories, strict=True)),
            dict(zip(self.numbers, numbers, strict=True)),
            self.sequences(sequences),
            lsn,
            self.vectors(vectors),
        )

    def sequences(self, given: Any) -> dict[str, Ragged]:
        """Return sequences under their features' names."""
        return {feature.name: _ragged(feature, parts) for feature, parts in zip(self._sequences, given, strict=True)}

    def vectors(self, given: Any) -> dict[str, Numbers]:
        """Return vectors under their features' names."""
        return {
            feature.name: values if len(values) else values.reshape(0, feature.width)
            for feature, values in zip(self._vectors, given, strict=True)
        }


class _LiveColumns:
    """Features of a request and of its candidates, whose native columns stay side by side."""

    def __init__(self, plan: Plan) -> None:
        self._request = _Columns([feature for feature in plan.features if feature.stage == "request"])
        self._candidate = _Columns([feature for feature in plan.features if feature.stage != "request"])
        self._categories = ColumnLayout([self._request.categories, self._candidate.categories])
        self._numbers = ColumnLayout([self._request.numbers, self._candidate.numbers])

    def block(self, lsn: int, of_request: Any, of_candidates: Any) -> FeatureBlock:
        """Return what was read at a log position."""
        return FeatureBlock(
            Columns(self._categories, (of_request[0], of_candidates[0])),
            Columns(self._numbers, (of_request[1], of_candidates[1])),
            self._request.sequences(of_request[2]) | self._candidate.sequences(of_candidates[2]),
            lsn,
            self._request.vectors(of_request[3]) | self._candidate.vectors(of_candidates[3]),
        )


def _ragged(feature: Feature, parts: Any) -> Ragged:
    offsets, keys, numbers, age = parts
    key, number = iter(keys), iter(numbers)
    fields = {field.name: next(key) if field.is_category else next(number) for field in feature.fields}
    return Ragged(offsets, fields, age)
