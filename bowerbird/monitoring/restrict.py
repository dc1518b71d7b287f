"""Parts of a plan: some features with what they need, each operation as an output, a feature's own fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bowerbird.plan.spec import Aggregate, Feature, Feed, Hop, Kind, Node, Path, Plan, SequenceField

_replace = msgspec.structs.replace
_FITTED = ("affine", "bucketise")
Renumbered = Mapping[int, int]
"""Old index to new one."""


def needed_nodes(plan: Plan, roots: Iterable[int]) -> list[int]:
    """Return the indices of some nodes and of everything that they are computed from, ascending."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(plan.nodes[node].inputs)
    return sorted(found)


def features_only(plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan of some features: their nodes, aggregates and families, and every slot and type as they were.

    Raises KeyError for a name that is no feature.
    """
    features = [plan.feature(name) for name in names]
    kept = needed_nodes(plan, [feature.node for feature in features])
    nodes = _numbered(kept)
    read = {plan.nodes[node].aggregate for node in kept if plan.nodes[node].aggregate >= 0}
    aggregates = _numbered(sorted(read))
    families = _numbered(sorted({plan.aggregates[index].family for index in aggregates}))
    return _replace(
        plan,
        features=[_replace(feature, node=nodes[feature.node]) for feature in features],
        nodes=[_renumber_node(plan.nodes[node], nodes, aggregates) for node in kept],
        aggregates=[_replace(plan.aggregates[i], family=families[plan.aggregates[i].family]) for i in aggregates],
        families=[plan.families[index] for index in families],
        fits=[_replace(fit, node=nodes[fit.node], source=nodes[fit.source]) for fit in plan.fits if fit.node in nodes],
    )


def slots_only(plan: Plan) -> Plan:
    """Return the plan without the slots and record types that nothing in it reads."""
    paths = [path for node in plan.nodes if (path := node.path) is not None]
    feeds = [feed for aggregate in plan.aggregates for feed in aggregate.feeds]
    paths += [path for feed in feeds for path in feed_paths(feed)]
    hops = [hop for path in paths for hop in path.hops]
    tables = {hop.table for hop in hops}
    used_types = tables | {feed.type for feed in feeds}
    used_types |= {index for index, record in enumerate(plan.types) if record.kind == "exposure"}
    used = {plan.user_slot, plan.item_slot} | {path.slot for path in paths} | {hop.slot for hop in hops}
    used |= {plan.types[table].slots[0] for table in tables}
    slots, types = _numbered(sorted(used)), _numbered(sorted(used_types))
    kept_types = [
        _replace(plan.types[index], slots=[slots[slot] for slot in plan.types[index].slots if slot in slots])
        for index in types
    ]
    return _replace(
        plan,
        slots=[plan.slots[index] for index in slots],
        types=kept_types,
        aggregates=[_renumber_aggregate(aggregate, slots, types) for aggregate in plan.aggregates],
        nodes=[_replace(node, path=_renumber_path(node.path, slots, types)) for node in plan.nodes],
        user_slot=slots[plan.user_slot],
        item_slot=slots[plan.item_slot],
        fixed=[_replace(fixed, slot=slots[fixed.slot]) for fixed in plan.fixed if fixed.slot in slots],
    )


def feed_paths(feed: Feed) -> list[Path]:
    """Return every path that a feed follows from its record."""
    value = [feed.value] if feed.value is not None else []
    return [*feed.keys, *(test.path for test in feed.tests), *value, *feed.fields]


def probe_name(node: int) -> str:
    """Return the name under which ``probe_plan`` puts out a node."""
    return f"node_{node}"


def probe_plan(plan: Plan) -> Plan:
    """Return the plan with every node as an output, named by ``probe_name``, instead of its features."""
    declared = {feature.node: feature for feature in plan.features}
    return _replace(plan, features=[_probe(plan, index, declared.get(index)) for index in range(len(plan.nodes))])


def feature_fingerprint(plan: Plan, name: str, constants: bool = True) -> str:
    """Return 16 hexadecimal digits that are equal where a feature means the same in two plans.

    Without ``constants``, what is or could be fitted (moments, buckets) does not matter.
    """
    part = slots_only(features_only(plan, [name]))
    if not constants:
        nodes = [_replace(node, numbers=[]) if node.op in _FITTED else node for node in part.nodes]
        part = _replace(part, nodes=nodes, fits=[])
    return hashlib.sha256(msgspec.json.encode(_replace(part, project="", fit_until=None))).hexdigest()[:16]


def _numbered(indices: Iterable[int]) -> dict[int, int]:
    return {old: new for new, old in enumerate(indices)}


def _renumber_node(node: Node, nodes: Renumbered, aggregates: Renumbered) -> Node:
    inputs = [nodes[index] for index in node.inputs]
    return _replace(node, inputs=inputs, aggregate=aggregates.get(node.aggregate, -1))


def _renumber_path(path: Path | None, slots: Renumbered, types: Renumbered) -> Path | None:
    return None if path is None else _moved(path, slots, types)


def _moved(path: Path, slots: Renumbered, types: Renumbered) -> Path:
    return Path(slots[path.slot], [Hop(types[hop.table], slots[hop.slot]) for hop in path.hops])


def _renumber_aggregate(aggregate: Aggregate, slots: Renumbered, types: Renumbered) -> Aggregate:
    return _replace(aggregate, feeds=[_renumber_feed(feed, slots, types) for feed in aggregate.feeds])


def _renumber_feed(feed: Feed, slots: Renumbered, types: Renumbered) -> Feed:
    return Feed(
        types[feed.type],
        [_moved(path, slots, types) for path in feed.keys],
        [_replace(test, path=_moved(test.path, slots, types)) for test in feed.tests],
        _renumber_path(feed.value, slots, types),
        [_moved(path, slots, types) for path in feed.fields],
    )


def _probe(plan: Plan, index: int, declared: Feature | None) -> Feature:
    name, node = probe_name(index), plan.nodes[index]
    if declared is not None:
        return _replace(declared, name=name)
    if node.op in ("sequence", "top"):
        length = node.length or plan.aggregates[node.aggregate].length
        return Feature(name, "sequence", node.stage, index, length=length, fields=_entry_fields(plan, node))
    if node.op == "vector":
        assert node.path is not None
        width = plan.slots[end_slot(node.path)].width
        return Feature(name, "vector", node.stage, index, width=width)
    kind: Kind = "category" if node.is_category else "number"
    return Feature(name, kind, node.stage, index)


def _entry_fields(plan: Plan, node: Node) -> list[SequenceField]:
    slots = [plan.slots[end_slot(path)] for path in plan.aggregates[node.aggregate].feeds[0].fields]
    fields = [SequenceField(slot.name, slot.is_category) for slot in slots]
    return [*fields, SequenceField("count", False)] if node.op == "top" else fields


def end_slot(path: Path) -> int:
    """Return the slot in which a path ends."""
    return path.hops[-1].slot if path.hops else path.slot
