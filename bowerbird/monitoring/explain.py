"""Why a feature had its value: the engine's replay to the read, and the same value out of the events that made it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import NotFoundError
from bowerbird.log.reader import LogReader
from bowerbird.log.schema import AVAILABLE, ID, SLATE, TIME, key_types, record_named, value_types
from bowerbird.monitoring.attributes import AttributeHistory, Words
from bowerbird.monitoring.counting import count_events, decay_weights, tile_numbers
from bowerbird.monitoring.describe import feature_text, node_title
from bowerbird.monitoring.evidence import Evidence, Gatherer, KeyedRead, Mask, attribute_rows
from bowerbird.monitoring.explanation import (
    EventRow,
    Explanation,
    FeatureExplanation,
    NodeExplanation,
    StateExplanation,
    TileRow,
)
from bowerbird.monitoring.names import Names
from bowerbird.monitoring.raw_records import raw_records
from bowerbird.monitoring.records import Indices, Placed, gather, join, plain_types
from bowerbird.monitoring.restrict import features_only, needed_nodes, probe_name, probe_plan, slots_only
from bowerbird.monitoring.subject import Subject, exposure_subject, slate_subject
from bowerbird.monitoring.values import columns_of, same_bits, shown
from bowerbird.plan.batch import ReadBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import Engine, build_engine
from bowerbird.plan.mistake import nearest
from bowerbird.plan.reference import ReferenceEngine
from bowerbird.plan.spec import Feature, Plan

Progress = Callable[[int, int], None]
"""Called with (records read, records to read)."""
_WHOLE = ("sequence", "last", "first")
"""Kinds of aggregates whose every event is listed: their length bounds them."""


@dataclass(frozen=True)
class _State:
    """One read of an aggregate: its evidence, which events count, and which the value follows from."""

    read: KeyedRead
    evidence: Evidence
    counted: Mask
    behind: Mask
    left_out: dict[str, int]


def explain(
    workspace: Workspace,
    identity: str,
    feature: str | None = None,
    *,
    item: str | None = None,
    limit: int = 20,
    progress: Progress | None = None,
) -> Explanation:
    """Explain a feature (default: all) of an exposure, by its id, or of a slate's ``item``, by the slate's id.

    At most ``limit`` events are listed for each state, and all of a sequence; every one is counted. Two passes over
    the log; memory is bounded by the key's events and the tables. Raises NotFoundError for an unknown id or feature.
    """
    started = time.perf_counter()
    reader = LogReader(workspace)
    subject = (
        exposure_subject(workspace, reader, identity) if item is None else slate_subject(workspace, identity, item)
    )
    names = _names_wanted(subject.plan, feature)
    found = _Explainer(workspace, reader, subject, names, limit, progress or (lambda done, total: None)).explain()
    return Explanation(
        identity,
        subject.user,
        subject.item,
        subject.read_lsn,
        iso(subject.read_time),
        reader.size,
        all(each.agrees for each in found),
        found,
        time.perf_counter() - started,
    )


def iso(moment: int) -> str:
    """Return microseconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat(timespec="microseconds")


def _names_wanted(plan: Plan, feature: str | None) -> list[str]:
    names = [each.name for each in plan.features]
    if feature is None:
        return names
    if feature not in names:
        raise NotFoundError(f"The plan has no feature {feature!r}.", nearest(feature, names))
    return [feature]


class _Explainer:
    """Explains some features of one subject."""

    def __init__(
        self,
        workspace: Workspace,
        reader: LogReader,
        subject: Subject,
        features: Sequence[str],
        limit: int,
        progress: Progress,
    ) -> None:
        self._project = workspace.project
        self._reader = reader
        self._subject = subject
        self._declared = features_only(subject.plan, features)
        self._plan = slots_only(probe_plan(self._declared))
        self._encoder = Encoder(self._plan)
        self._slots = subject.encode(self._encoder)
        self._history = AttributeHistory(self._plan)
        self._limit = limit
        self._progress = progress
        self._raw: dict[int, dict[str, Any]] = {}
        self._names = Names()
        self._name_values()

    def explain(self) -> list[FeatureExplanation]:
        """Return the explanations, in plan order."""
        replayed = self._replay()
        gatherer, states = self._gather(replayed)
        records = gatherer.records()
        self._fetch(records, states)
        return [self._feature(feature, replayed, states, records) for feature in self._declared.features]

    def _name_values(self) -> None:
        self._names.add_record(self._project.exposure, self._subject.values)
        for node in self._plan.nodes:
            self._names.add_node(node)

    def _replay(self) -> FeatureBlock:
        """Return every node's value as the engine reads it at the subject's place in the log."""
        engine = build_engine(self._plan, folder=self._subject.folder)
        total = self._subject.read_lsn + self._reader.size
        for batch in self._reader.batches(self._plan, self._encoder, last=self._subject.read_lsn):
            engine.apply(batch.records)
            self._history.add(_placed(batch.first_lsn, batch.records))
            self._progress(batch.first_lsn + len(batch.records), total)
        return self._read(engine)

    def _read(self, engine: Engine) -> FeatureBlock:
        at = np.array([engine.lsn], np.int64)
        nothing = join([], len(self._plan.slots)).records
        return engine.replay(nothing, ReadBatch(at, np.array([self._subject.read_time], np.int64), self._slots))

    def _gather(self, replayed: FeatureBlock) -> tuple[Gatherer, dict[int, _State]]:
        """Look through the whole log for the events of the keys that were read; return states by node."""
        subject = self._subject
        reads = {
            index: self._read_of(index, replayed) for index in range(len(self._plan.nodes)) if self._is_state(index)
        }
        gatherer = Gatherer(self._plan, self._history, list(reads.values()), subject.read_lsn, subject.read_time)
        total = subject.read_lsn + self._reader.size
        for batch in self._reader.batches(self._plan, self._encoder):
            placed = _placed(batch.first_lsn, batch.records)
            self._history.add_from(placed, subject.read_lsn)
            gatherer.add(placed)
            self._progress(subject.read_lsn + batch.first_lsn + len(batch.records), total)
        states = {}
        for index, read in reads.items():
            evidence = gatherer.evidence(read)
            counted = count_events(self._plan.aggregates[read.aggregate], evidence, subject.read_time)
            states[index] = _State(
                read, evidence, counted.events, counted.behind, _left_out(evidence, counted.left_out)
            )
        return gatherer, states

    def _is_state(self, node: int) -> bool:
        return self._plan.nodes[node].aggregate >= 0

    def _read_of(self, index: int, replayed: FeatureBlock) -> KeyedRead:
        node = self._plan.nodes[index]
        keys = tuple(int(replayed.categories[probe_name(part)][0]) for part in node.inputs)
        return KeyedRead(node.aggregate, keys)

    # ---- names and raw records ----------------------------------------------------------------

    def _fetch(self, records: Placed, states: dict[int, _State]) -> None:
        """Read the records that will be shown, with their ids and values, and the attributes in force."""
        wanted = [state.evidence.lsns[self._listed(state)] for state in states.values()]
        tables = self._request_rows()
        for state in states.values():
            tables += self._event_rows(state, records, self._listed(state))
        self._fetch_types(join([_among(records, wanted), *tables], len(self._plan.slots)))

    def _fetch_types(self, placed: Placed) -> None:
        types, _ = plain_types(placed.records.types)
        for index in np.unique(types):
            name = self._plan.types[index].name
            found = raw_records(self._reader, name, placed.lsns[types == index])
            self._raw |= found
            for values in found.values():
                self._names.add_record(record_named(self._project, name), values)

    def _request_rows(self) -> list[Placed]:
        paths = [node.path for node in self._plan.nodes if node.path is not None]
        return self._history.rows_used(paths, self._slots, np.array([self._subject.read_lsn], np.int64))

    def _event_rows(self, state: _State, records: Placed, rows: Indices) -> list[Placed]:
        events = _pick(records, state.evidence.lsns[rows])
        aggregate = self._plan.aggregates[state.read.aggregate]
        return attribute_rows(self._plan, self._history, aggregate, events, state.evidence.feeds[rows])

    def _listed(self, state: _State) -> Indices:
        rows = np.flatnonzero(state.counted)
        whole = self._plan.aggregates[state.read.aggregate].kind in _WHOLE
        ordered = rows[np.lexsort((state.evidence.lsns[rows], state.evidence.times[rows]))]
        return ordered if whole else ordered[max(0, len(ordered) - self._limit) :]

    # ---- one feature --------------------------------------------------------------------------

    def _feature(
        self, feature: Feature, replayed: FeatureBlock, states: dict[int, _State], records: Placed
    ) -> FeatureExplanation:
        nodes = needed_nodes(self._plan, [feature.node])
        again, used = self._from_events(nodes, states, records)
        tree = self._node(feature.node, replayed, again, states)
        logged = self._logged(feature)
        own = self._plan.feature(probe_name(feature.node))
        agrees = all(same_bits(probe_name(node), replayed, again) for node in nodes)
        if self._subject.logged is not None:
            agrees = agrees and self._was_served(feature, replayed)
        return FeatureExplanation(
            feature.name, feature.kind, feature.stage, feature_text(self._declared, feature.name),
            shown(own, replayed, self._names), tree.from_events, agrees, tree, logged, used,
        )  # fmt: skip

    def _from_events(
        self, nodes: Sequence[int], states: dict[int, _State], records: Placed
    ) -> tuple[FeatureBlock, int]:
        """Return the nodes' values out of nothing but the events counted and the attributes that they refer to."""
        parts = self._request_rows()
        for node in nodes:
            if node in states:
                rows = np.flatnonzero(states[node].behind)
                parts += [_among(records, [states[node].evidence.lsns[rows]])]
                parts += self._event_rows(states[node], records, rows)
        listed = join(parts, len(self._plan.slots))
        own = features_only(self._plan, [probe_name(node) for node in nodes])
        twin = ReferenceEngine(own, self._subject.folder)
        twin.apply(listed.records)
        return self._read(twin), len(listed.lsns)

    def _logged(self, feature: Feature) -> Any:
        if self._subject.logged is None or feature.name not in columns_of(self._subject.logged):
            return None
        row = self._subject.position if feature.stage != "request" else 0
        return shown(feature, self._subject.logged, self._names, row)

    def _was_served(self, feature: Feature, replayed: FeatureBlock) -> bool:
        logged = self._subject.logged
        assert logged is not None
        if feature.name not in columns_of(logged):
            return True
        row = self._subject.position if feature.stage != "request" else 0
        return same_bits(feature.name, logged, replayed, probe_name(feature.node), row)

    def _node(
        self, index: int, replayed: FeatureBlock, again: FeatureBlock, states: dict[int, _State]
    ) -> NodeExplanation:
        node, probe = self._plan.nodes[index], self._plan.feature(probe_name(index))
        return NodeExplanation(
            node_title(self._plan, node),
            shown(probe, replayed, self._names),
            shown(probe, again, self._names),
            same_bits(probe.name, replayed, again),
            self._state(index, states[index]) if index in states else None,
            [self._node(part, replayed, again, states) for part in node.inputs if not self._is_state(index)],
        )

    # ---- one state ----------------------------------------------------------------------------

    def _state(self, index: int, state: _State) -> StateExplanation:
        aggregate = self._plan.aggregates[state.read.aggregate]
        parts = self._plan.families[aggregate.family].parts
        keys = {name: self._names.value(key) for name, key in zip(parts, state.read.parts, strict=True)}
        return StateExplanation(
            node_title(self._plan, self._plan.nodes[index]),
            aggregate.fingerprint,
            aggregate.kind,
            keys,
            int(state.counted.sum()),
            state.left_out,
            self._tiles(state),
            [self._event(state, int(row)) for row in self._listed(state)],
        )

    def _tiles(self, state: _State) -> list[TileRow]:
        aggregate, evidence = self._plan.aggregates[state.read.aggregate], state.evidence
        if aggregate.kind != "tiles":
            return []
        rows = np.flatnonzero(state.counted)
        signs = np.where(evidence.retracts[rows], -1, 1)
        numbers, place = np.unique(tile_numbers(aggregate, evidence.times[rows]), return_inverse=True)
        counts = np.bincount(place, signs, len(numbers))
        sums = np.bincount(place, signs * np.rint(evidence.values[rows] * aggregate.scale), len(numbers))
        return [
            TileRow(iso(int(number) * aggregate.tile), int(count), float(total) / aggregate.scale)
            for number, count, total in zip(numbers, counts, sums, strict=True)
        ]

    def _event(self, state: _State, row: int) -> EventRow:
        aggregate, evidence = self._plan.aggregates[state.read.aggregate], state.evidence
        feed = aggregate.feeds[int(evidence.feeds[row])]
        raw = self._raw.get(int(evidence.lsns[row]), {})
        record = record_named(self._project, self._plan.types[feed.type].name)
        columns = [*key_types(record), *(name for name in value_types(record) if name != SLATE)]
        weight = None
        if aggregate.kind == "decayed":
            weight = float(decay_weights(aggregate, evidence, self._subject.read_time)[row])
        return EventRow(
            int(evidence.lsns[row]),
            record.name,
            iso(int(raw.get(TIME, evidence.times[row]))),
            raw.get(ID, ""),
            iso(raw[AVAILABLE]) if AVAILABLE in raw else "",
            bool(evidence.retracts[row]),
            weight,
            {name: raw[name] for name in columns if raw.get(name) is not None},
            self._fields(state, row, state.evidence.fields[:, row]),
        )

    def _fields(self, state: _State, row: int, words: Words) -> dict[str, Any]:
        feed = self._plan.aggregates[state.read.aggregate].feeds[int(state.evidence.feeds[row])]
        found: dict[str, Any] = {}
        for path, word in zip(feed.fields, words, strict=True):
            slot = self._plan.slots[path.hops[-1].slot if path.hops else path.slot]
            number = float(np.array([word]).view(np.float64)[0])
            known = None if math.isnan(number) else number
            found[slot.name] = self._names.value(int(word)) if slot.is_category else known
        return found


def _left_out(evidence: Evidence, by_kind: dict[str, int]) -> dict[str, int]:
    reasons = {
        "filtered": evidence.filtered,
        "without a value": evidence.valueless + by_kind.get("without a value", 0),
        "not known yet at the read, though it had happened": evidence.late,
        "after the read": evidence.later - evidence.late,
    }
    return {reason: count for reason, count in (by_kind | reasons).items() if count}


def _placed(first: int, records: Any) -> Placed:
    return Placed(np.arange(first, first + len(records)), records)


def _among(records: Placed, lsns: Sequence[Indices]) -> Placed:
    wanted = np.unique(np.concatenate(lsns)) if lsns else np.empty(0, np.int64)
    return _pick(records, wanted)


def _pick(records: Placed, lsns: Indices) -> Placed:
    """Return the records of some LSNs, each of which is there, in the order given."""
    return Placed(lsns, gather(records.records, np.searchsorted(records.lsns, lsns)))
