"""KuaiRand's log as one flat table that peers can read, and the features of its plan that they can express.

Attributes hold from the beginning of the log, so every value that the plan reaches is a column, joined before
anything is timed; categories are small integers (0 missing). A read is a row of type READ that sees the rows of
earlier times; in the order of ``place`` it stands before the events of its instant.

Chosen are features made of lifetime and windowed counts, sums, means, rates, times since, and log1p of them. Left out
are those of decayed counters (their half-lives overflow a running sum of weights), sequences, matches, plain values.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.common import WORK
from bench.kuairand import workspace
from bowerbird.log.reader import LogReader
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Aggregate, Path, Plan
from bowerbird.samples.replay import Reads, reads_of_exposures

READ = 1000
_OPERATIONS = {"read", "rate", "log1p", "ratio", "difference"}
_READS = {"count", "sum", "mean", "since"}
Codes = dict[int, int]


@dataclass(frozen=True)
class FlatLog:
    """The table's file, the plan of the chosen features, and each category column's codes by 64-bit key."""

    file: File
    plan: Plan
    codes: dict[str, Codes]


@dataclass(frozen=True)
class EncodedLog:
    """The log and its reads as our engine takes them."""

    batches: list[RecordBatch]
    reads: Reads


def chosen_plan(every: bool = False) -> Plan:
    """Return the plan of the features that peers can express, or of every feature."""
    project = workspace().project
    plan = compile_plan(project)
    if every:
        return plan
    names = [feature.name for feature in plan.features if _expressible(plan, feature.node)]
    return compile_plan(dataclasses.replace(project, features={name: project.features[name] for name in names}))


def _expressible(plan: Plan, index: int) -> bool:
    node = plan.nodes[index]
    if node.op not in _OPERATIONS:
        return False
    if node.op != "read":
        return all(_expressible(plan, below) for below in node.inputs)
    aggregate = plan.aggregates[node.aggregate]
    keys = [plan.nodes[below].path for below in node.inputs]
    same = all(feed.keys == keys for feed in aggregate.feeds)
    return same and aggregate.kind in ("tiles", "total", "last") and node.what in _READS


def encoded(plan: Plan) -> EncodedLog:
    """Return the whole log encoded for a plan."""
    reader, encoder = LogReader(workspace()), Encoder(plan)
    batches = [batch.records for batch in reader.batches(plan, encoder)]
    return EncodedLog(batches, reads_of_exposures(encoder, reader.exposures()))


def name_of(path: Path) -> str:
    """Return the table's column for a path."""
    return "v" + "_".join(str(slot) for slot in (path.slot, *(hop.slot for hop in path.hops)))


def flat_log() -> FlatLog:
    """Write the table (quick enough to be done anew) and return it."""
    plan = chosen_plan()
    log = encoded(plan)
    types = np.concatenate([batch.types for batch in log.batches])
    times = np.concatenate([batch.times for batch in log.batches])
    slots = np.concatenate([batch.slots for batch in log.batches], axis=1)
    kept = np.isin(types, [feed.type for aggregate in plan.aggregates for feed in aggregate.feeds])
    every = np.concatenate([slots[:, kept], log.reads.slots], axis=1)
    reads = len(log.reads.times)
    columns: dict[str, npt.NDArray[Any]] = {
        "type": np.concatenate([types[kept], np.full(reads, READ, np.int32)]),
        "time": np.concatenate([times[kept], log.reads.times]),
        "read": np.concatenate([np.full(np.count_nonzero(kept), -1), np.arange(reads)]).astype(np.int32),
    }
    codes: dict[str, Codes] = {}
    for path in _paths(plan):
        values, is_category = _follow(plan, path, every, types, slots)
        if is_category:
            keys, values = np.unique(np.append(values, np.uint64(0)), return_inverse=True)
            codes[name_of(path)] = {int(key): code for code, key in enumerate(keys)}
            columns[name_of(path)] = values[:-1].astype(np.int32)
        else:
            columns[name_of(path)] = values.view(np.float64)
    columns["place"] = 2 * columns["time"] + (columns["type"] != READ)
    order = np.argsort(columns["place"], kind="stable")
    file = WORK / "features-kuairand.parquet"
    pq.write_table(pa.table({name: column[order] for name, column in columns.items()}), file)
    return FlatLog(file, plan, codes)


def _paths(plan: Plan) -> list[Path]:
    found: dict[str, Path] = {}
    for aggregate in plan.aggregates:
        for feed in aggregate.feeds:
            values = [feed.value] if feed.value else []
            found |= {name_of(path): path for path in [*feed.keys, *(test.path for test in feed.tests), *values]}
    return list(found.values())


def _follow(
    plan: Plan, path: Path, rows: npt.NDArray[np.uint64], types: npt.NDArray[np.int32], slots: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], bool]:
    """Return the path's values for rows, attributes looked up among the log's table records."""
    values, is_category = rows[path.slot], plan.slots[path.slot].is_category
    for hop in path.hops:
        records = slots[:, types == hop.table]
        entity = records[plan.types[hop.table].slots[0]]
        order = np.argsort(entity)
        if len(np.unique(entity)) != len(entity):
            raise SystemExit(f"{plan.types[hop.table].name} changes in time: it cannot be a column.")
        place = np.minimum(np.searchsorted(entity[order], values), len(entity) - 1)
        found = entity[order][place] == values
        is_category = plan.slots[hop.slot].is_category
        missing = np.uint64(0) if is_category else np.array(np.nan).view(np.uint64)
        values = np.where(found, records[hop.slot][order][place], missing)
    return values, is_category


def keyed(plan: Plan) -> dict[tuple[str, ...], list[int]]:
    """Return aggregates' indices by their key's columns."""
    found: dict[tuple[str, ...], list[int]] = {}
    for index, aggregate in enumerate(plan.aggregates):
        found.setdefault(key_columns(aggregate), []).append(index)
    return found


def key_columns(aggregate: Aggregate) -> tuple[str, ...]:
    """Return the columns of an aggregate's key."""
    return tuple(name_of(path) for path in aggregate.feeds[0].keys)


def summed(plan: Plan) -> set[int]:
    """Return the aggregates whose sums are read."""
    return {node.aggregate for node in plan.nodes if node.op == "read" and node.what in ("sum", "mean")}
