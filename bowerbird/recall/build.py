"""Building the item-to-item index from the log: items that the same users acted on near each other.

The weight of a pair is its count over √(count of one · count of the other): cosine similarity of the items'
users (Sarwar, Karypis, Konstan, Riedl, WWW 2001), over pairs within a window and a few events of each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.declare import features as f
from bowerbird.declare.durations import microseconds
from bowerbird.declare.scenes import CoVisitation, Scene
from bowerbird.declare.workspace import Workspace
from bowerbird.log.reader import LogReader
from bowerbird.plan.block import Keys
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, build_engine
from bowerbird.plan.spec import Plan
from bowerbird.recall.neighbours import IndexManifest, NeighbourIndex
from bowerbird.recall.plan import recall_plan

_HISTORY = 500
"""How many of a user's latest events take part."""
_REACH = 20
"""How many events apart a pair may be."""


@dataclass(frozen=True)
class Histories:
    """Users' events end to end, each user's oldest first: int64 user numbers, uint64 items, float64 ages (s)."""

    users: npt.NDArray[np.int64]
    items: Keys
    ages: npt.NDArray[np.float64]


def build_indexes(workspace: Workspace) -> list[IndexManifest]:
    """Build and save an index for every co-visitation channel; return what was built."""
    recall = recall_plan(workspace.project)
    manifests = []
    for scene in workspace.project.scenes:
        for name, channel in zip(recall.scenes[scene.name].channels, scene.recall, strict=True):
            if isinstance(channel, CoVisitation):
                manifests.append(_build(workspace, scene, name, channel))
    return manifests


def _build(workspace: Workspace, scene: Scene, name: str, channel: CoVisitation) -> IndexManifest:
    expression = f.sequence(channel.event, scene.user, _HISTORY, [scene.item])
    plan = compile_plan(dataclasses.replace(workspace.project, features={name: expression}, fit_until=None))
    histories, lsn = _read_histories(workspace, plan, name, scene.item.name)
    index = neighbour_index(histories, microseconds(channel.window) / 1e6, channel.neighbours)
    folder = workspace.recall_folder / name
    numbers = [int(each.name) for each in folder.iterdir() if each.name.isdigit()] if folder.is_dir() else []
    return index.save(folder / str(max(numbers, default=0) + 1), name, lsn)


def _read_histories(workspace: Workspace, plan: Plan, name: str, item_field: str) -> tuple[Histories, int]:
    reader, encoder, engine = LogReader(workspace), Encoder(plan), build_engine(plan)
    fed = [feed.type for aggregate in plan.aggregates for feed in aggregate.feeds]
    users = np.empty(0, np.uint64)
    latest = 0
    for batch in reader.batches(plan, encoder):
        records = batch.records
        engine.apply(records)
        latest = max(latest, int(records.times.max(initial=0)))
        users = np.union1d(users, records.slots[plan.user_slot, np.isin(records.types, fed)])
    rows = list(_user_rows(engine, plan, name, item_field, users, latest))
    if not rows:
        return Histories(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0)), engine.lsn
    numbers = np.repeat(np.arange(len(rows)), [len(items) for items, _ in rows])
    items = np.concatenate([items for items, _ in rows])
    return Histories(numbers, items, np.concatenate([ages for _, ages in rows])), engine.lsn


def _user_rows(
    engine: NativeEngine, plan: Plan, name: str, item_field: str, users: Keys, time_us: int
) -> Iterator[tuple[Keys, npt.NDArray[np.float64]]]:
    request = Encoder(plan).encode_request(None, {})
    nothing = np.empty(0, np.uint64)
    for user in users:
        request[plan.user_slot] = user
        ragged = engine.read(time_us, request, nothing).sequences[name]
        yield ragged.fields[item_field].astype(np.uint64), ragged.age.astype(np.float64)


def neighbour_index(histories: Histories, window_seconds: float, neighbours: int) -> NeighbourIndex:
    """Return the index of histories: at most ``neighbours`` of each item, by cosine, then by key."""
    items, codes = np.unique(histories.items, return_inverse=True)
    if len(items) == 0:
        return NeighbourIndex.empty()
    pairs, counts = _pair_counts(histories, codes, len(items), window_seconds)
    totals = np.bincount(codes, minlength=len(items))
    left, right = pairs // len(items), pairs % len(items)
    weights = (counts / np.sqrt(totals[left] * totals[right])).astype(np.float32)
    order = np.lexsort((right, -weights, left))
    left, right, weights = left[order], right[order], weights[order]
    starts = np.searchsorted(left, np.arange(len(items) + 1))
    kept = np.arange(len(left)) - starts[left] < neighbours
    offsets = np.searchsorted(left[kept], np.arange(len(items) + 1)).astype(np.int64)
    return NeighbourIndex(items, offsets, items[right[kept]], weights[kept])


def _pair_counts(
    histories: Histories, codes: npt.NDArray[np.int64], items: int, window_seconds: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ordered pairs as ``left * items + right``, ascending, and how often each occurs."""
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for apart in range(1, min(_REACH, len(codes) - 1) + 1):
        earlier, later = codes[:-apart], codes[apart:]
        near = histories.ages[:-apart] - histories.ages[apart:] <= window_seconds
        chosen = near & (histories.users[:-apart] == histories.users[apart:]) & (earlier != later)
        one, other = earlier[chosen], later[chosen]
        found, times = np.unique(np.concatenate([one * items + other, other * items + one]), return_counts=True)
        merged, inverse = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts, times]), len(merged)).astype(np.int64)
        pairs = merged
    return pairs, counts
