"""Parts of plans: what state a plan needs that others do not keep already, and several plans' state in one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

import msgspec

from bowerbird.plan.spec import Aggregate, Family, Feed, Hop, Path, Plan, RecordType, Slot, Test

_Item = TypeVar("_Item")
Attribute = tuple[str, str]
"""An attribute by its table's and its slot's name."""
Held = str | Attribute
"""What a state keeps: an aggregate by its fingerprint, or an attribute."""


def held_by(plan: Plan) -> set[Held]:
    """Return what a state of this plan keeps: its aggregates, and every attribute of its tables."""
    return {*_fingerprints(plan), *_kept_attributes(plan)}


def needed_by(plan: Plan) -> set[Held]:
    """Return what a plan's own features read from state: its aggregates, and attributes."""
    paths = [node.path for node in plan.nodes if node.path is not None]
    return {*_fingerprints(plan), *(_attribute(plan, hop) for path in paths for hop in path.hops)}


def missing_plan(plan: Plan, held: Collection[Held]) -> Plan | None:
    """Return a plan of only what a plan's features need and is not in ``held``; None where nothing is missing.

    It has no features. Its tables keep what its aggregates look up, and what the features read that is not in
    ``held``; records that serve neither are not in it, so that a reader of the log skips them.
    """
    missing = needed_by(plan) - set(held)
    wanted = _StatePlan(plan)
    for aggregate in plan.aggregates:
        if aggregate.fingerprint in missing:
            wanted.add_aggregate(plan, aggregate)
    for table, slot in sorted(each for each in missing if isinstance(each, tuple)):
        wanted.add_attribute(plan, Hop(plan.type_index(table), plan.slot(slot)))
    return wanted.plan() if missing else None


def merged_plan(plans: Iterable[Plan]) -> Plan:
    """Return one plan with the state of several, each aggregate and attribute once; raises ValueError for none."""
    first, *others = plans
    merged = _StatePlan(first)
    for plan in (first, *others):
        _add_state(merged, plan)
    return merged.plan()


def extended_plan(plan: Plan, other: Plan) -> Plan:
    """Return a plan with another one's state added: what it had keeps its index, and its features stay."""
    extended = _StatePlan(plan)
    extended.slots, extended.families = list(plan.slots), list(plan.families)
    extended.types = {record.name: _Record(record.kind, list(record.slots)) for record in plan.types}
    extended.aggregates = {each.fingerprint: each for each in plan.aggregates}
    _add_state(extended, other)
    state = extended.plan()
    return msgspec.structs.replace(
        plan, slots=state.slots, types=state.types, families=state.families, aggregates=state.aggregates
    )


def _add_state(target: _StatePlan, plan: Plan) -> None:
    for aggregate in plan.aggregates:
        target.add_aggregate(plan, aggregate)
    for table, slot in sorted(_kept_attributes(plan)):
        target.add_attribute(plan, Hop(plan.type_index(table), plan.slot(slot)))


def _fingerprints(plan: Plan) -> set[str]:
    return {aggregate.fingerprint for aggregate in plan.aggregates}


def _kept_attributes(plan: Plan) -> set[Attribute]:
    tables = [record for record in plan.types if record.kind == "table"]
    return {(record.name, plan.slots[slot].name) for record in tables for slot in record.slots[1:]}


def _attribute(plan: Plan, hop: Hop) -> Attribute:
    return plan.types[hop.table].name, plan.slots[hop.slot].name


class _Record(msgspec.Struct):
    """A record type that is being put together."""

    kind: str
    slots: list[int]


class _StatePlan:
    """Takes aggregates and attributes from plans of one project and gives them indices of its own."""

    def __init__(self, base: Plan) -> None:
        self._base = base
        self.slots: list[Slot] = []
        self.types: dict[str, _Record] = {}
        self.families: list[Family] = []
        self.aggregates: dict[str, Aggregate] = {}

    def add_aggregate(self, plan: Plan, aggregate: Aggregate) -> None:
        """Take an aggregate, unless it is there, with all that its feeds need."""
        if aggregate.fingerprint not in self.aggregates:
            family = _place(self.families, plan.families[aggregate.family])
            feeds = [self._feed(plan, feed) for feed in aggregate.feeds]
            self.aggregates[aggregate.fingerprint] = msgspec.structs.replace(aggregate, family=family, feeds=feeds)

    def add_attribute(self, plan: Plan, hop: Hop) -> Hop:
        """Take a table's column, unless it is there."""
        table = plan.types[hop.table]
        kept = self._record(table)
        for slot in (table.slots[0], hop.slot):
            self._fill(kept, plan.slots[slot])
        return Hop(list(self.types).index(table.name), _place(self.slots, plan.slots[hop.slot]))

    def plan(self) -> Plan:
        """Return what was taken, as a plan without features."""
        base = self._base
        user, item = (_place(self.slots, base.slots[slot]) for slot in (base.user_slot, base.item_slot))
        self._record(next(record for record in base.types if record.kind == "exposure"))
        types = [RecordType(name, record.kind, record.slots) for name, record in self.types.items()]  # type: ignore[arg-type]
        aggregates = list(self.aggregates.values())
        return Plan(base.project, self.slots, types, self.families, aggregates, [], [], item, user)

    def _feed(self, plan: Plan, feed: Feed) -> Feed:
        record = plan.types[feed.type]
        kept = self._record(record)

        def path(source: Path) -> Path:
            slot = self._fill(kept, plan.slots[source.slot])
            return Path(slot, [self.add_attribute(plan, hop) for hop in source.hops])

        return Feed(
            list(self.types).index(record.name),
            [path(key) for key in feed.keys],
            [Test(path(test.path), test.comparison, test.keys, test.numbers) for test in feed.tests],
            path(feed.value) if feed.value is not None else None,
            [path(field) for field in feed.fields],
        )

    def _record(self, record: RecordType) -> _Record:
        return self.types.setdefault(record.name, _Record(record.kind, []))

    def _fill(self, record: _Record, slot: Slot) -> int:
        index = _place(self.slots, slot)
        if index not in record.slots:
            record.slots.append(index)
        return index


def _place(items: list[_Item], item: _Item) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)
