"""Engines that execute a plan: the native one, and its NumPy twin for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.bulk import BulkReplay
from bowerbird.plan.functions import FunctionCost
from bowerbird.plan.parts import PartColumns
from bowerbird.plan.read import PlanReader
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState, StateOptions, Usage


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
    """The C++ engine. Thread-safe: reads run without the GIL, and with a versioned state beside ``apply``."""

    def __init__(self, plan: Plan, options: StateOptions | None = None, folder: Path | None = None) -> None:
        if plan.fits:
            raise InputError(
                f"The plan of {plan.project!r} has {len(plan.fits)} unfitted transforms.",
                "Fit it on the log first.",
            )
        self.plan = plan
        self.state = FeatureState(plan, options)
        self._reader = PlanReader(plan, [self.state], folder)

    @property
    def lsn(self) -> int:
        """How many records have been applied."""
        return self.state.lsn

    @property
    def function_costs(self) -> dict[str, FunctionCost]:
        """What each user's function has cost so far, by feature."""
        return self._reader.function_costs

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order."""
        self.state.apply(records)

    def replay(self, records: RecordBatch, reads: ReadBatch) -> FeatureBlock:
        """Apply records and answer reads between them; every feature has one row per read."""
        return self._reader.replay(records, reads)

    def bulk(self, *, keep: bool = True) -> BulkReplay:
        """Return a replay of many records at once, from the engine's position on; see ``BulkReplay``."""
        return BulkReplay(self._reader, keep)

    def replay_part(self, records: RecordBatch, reads: ReadBatch) -> PartColumns:
        """Apply records and read what this partition's keys hold; ``join_parts`` makes features of all parts."""
        return self._reader.replay_part(records, reads)

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock:
        """Return the features of candidates uint64 [n] for a request uint64 [slots] at ``time``."""
        return self._reader.read(time, request, candidates)

    def usage(self) -> Usage:
        """Return the state's size."""
        return self.state.usage()


def build_engine(plan: Plan, options: StateOptions | None = None, folder: Path | None = None) -> NativeEngine:
    """Return an empty native engine for a fitted plan; users' functions come from ``folder``."""
    return NativeEngine(plan, options, folder)


__all__ = ["Engine", "FeatureState", "NativeEngine", "StateOptions", "Usage", "build_engine"]
