"""The catalogue of features: what each is, what it holds, what it costs, and who uses it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bowerbird.declare.records import Event, Table
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError, NotFoundError
from bowerbird.log.imported.manifest import read_manifest as read_log_manifest
from bowerbird.log.imported.parts import read_part
from bowerbird.log.schema import record_schema
from bowerbird.monitoring.bundled import bundled_plan
from bowerbird.monitoring.describe import aggregate_text, feature_text
from bowerbird.monitoring.feature_cost import Costs, FeatureCost, StateSize, read_costs
from bowerbird.monitoring.moments import FeatureMoments, SampleColumns
from bowerbird.monitoring.names import Names
from bowerbird.monitoring.restrict import end_slot, feature_fingerprint, needed_nodes
from bowerbird.monitoring.subject import latest_samples
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import Aggregate, Feature, Plan
from bowerbird.samples.manifest import SampleManifest, read_manifest

_NAMED = 4
Progress = Callable[[int, int], None]
"""Called with (features done, features in all)."""


class ModelUse(msgspec.Struct, frozen=True):
    """A version with this feature; ``same`` says that it means the same by it as the project does now."""

    model: str
    version: int
    stage: str
    same: bool


class StateUse(msgspec.Struct, frozen=True):
    """An aggregate behind a feature. ``bytes`` is its own state, where the engine tells; ``family`` is what all
    aggregates of its keys hold together. Unknown before a measurement.
    """

    aggregate: str
    fingerprint: str
    keys: str
    bytes: int | None
    family: StateSize | None


class FeatureEntry(msgspec.Struct, frozen=True):
    """One feature. ``moments`` is unknown without samples, ``cost`` without a measurement of this plan."""

    name: str
    kind: str
    stage: str
    description: str
    fingerprint: str
    vocabulary: str
    length: int
    width: int
    fields: list[str]
    moments: FeatureMoments | None
    states: list[StateUse]
    cost: FeatureCost | None
    models: list[ModelUse]


class Catalogue(msgspec.Struct, frozen=True):
    """Every feature of a project. ``missing`` says what there is not yet, and how to get it.

    ``samples`` names the sample folder of the moments, ``day`` the day of it; ``measured`` when (ISO 8601) and
    ``measured_records`` at how many log records costs were measured.
    """

    project: str
    plan: str
    samples: str
    day: str
    rows: int
    measured: str
    measured_records: int
    missing: list[str]
    features: list[FeatureEntry]


def make_catalogue(
    workspace: Workspace,
    name: str | None = None,
    *,
    samples: str | None = None,
    day: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Catalogue:
    """Return the catalogue of every feature, or of one; coverage and moments are over the latest samples.

    ``samples`` names another sample folder, ``day`` (``2024-05-01``) one of its days. Works before there are
    samples, versions or measurements. Raises NotFoundError for an unknown feature, sample folder or day.
    """
    plan = compile_plan(workspace.project)
    wanted = _wanted(plan, name)
    manifest = _samples(workspace, samples)
    columns = SampleColumns(workspace.samples_folder / manifest.name, day) if manifest is not None else None
    costs = read_costs(workspace)
    uses = _model_uses(workspace, plan, wanted)
    moments: dict[str, FeatureMoments] = {}
    for done, feature in enumerate(wanted, 1):
        found = columns.moments(feature) if columns is not None else None
        if found is not None:
            moments[feature.name] = found
        progress(done, len(wanted))
    moments = _named(workspace, plan, wanted, moments)
    entries = [_entry(plan, each, moments.get(each.name), costs, uses.get(each.name, [])) for each in wanted]
    return Catalogue(
        plan.project,
        plan.fingerprint,
        manifest.name if manifest is not None else "",
        day or "",
        max((each.rows for each in moments.values()), default=0),
        costs.created if costs is not None else "",
        costs.records if costs is not None else 0,
        _missing(plan, manifest, costs, bool(_published(workspace)), [e.name for e in entries if e.moments is None]),
        entries,
    )


def _wanted(plan: Plan, name: str | None) -> list[Feature]:
    if name is None:
        return plan.features
    try:
        return [plan.feature(name)]
    except KeyError:
        names = [feature.name for feature in plan.features]
        raise NotFoundError(f"The project has no feature {name!r}.", nearest(name, names)) from None


def _samples(workspace: Workspace, name: str | None) -> SampleManifest | None:
    return latest_samples(workspace) if name is None else read_manifest(workspace.samples_folder / name)


def _missing(
    plan: Plan, samples: SampleManifest | None, costs: Costs | None, published: bool, without: list[str]
) -> list[str]:
    notes = []
    if samples is None:
        notes.append("No samples yet, so coverage and moments are unknown: bowerbird samples")
    elif without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        named = ", ".join(without[:_NAMED])
        notes.append(f"Samples {samples.name!r} were made without {named}{more}: bowerbird samples")
    if costs is None:
        notes.append("State and cost are not measured yet: bowerbird features --cost")
    elif costs.plan != plan.fingerprint:
        notes.append("State and cost were measured with an earlier plan: bowerbird features --cost")
    if not published:
        notes.append("No version is published yet: bowerbird train, bowerbird publish")
    return notes


def _entry(
    plan: Plan, feature: Feature, moments: FeatureMoments | None, costs: Costs | None, uses: list[ModelUse]
) -> FeatureEntry:
    return FeatureEntry(
        feature.name,
        feature.kind,
        feature.stage,
        feature_text(plan, feature.name),
        feature_fingerprint(plan, feature.name),
        feature.vocabulary,
        feature.length,
        feature.width,
        [field.name for field in feature.fields],
        moments,
        [_state(plan, aggregate, costs) for aggregate in _aggregates(plan, feature)],
        costs.features.get(feature.name) if costs is not None and costs.plan == plan.fingerprint else None,
        uses,
    )


def _aggregates(plan: Plan, feature: Feature) -> list[Aggregate]:
    indices = {plan.nodes[node].aggregate for node in needed_nodes(plan, [feature.node])}
    return [plan.aggregates[index] for index in sorted(indices) if index >= 0]


def _state(plan: Plan, aggregate: Aggregate, costs: Costs | None) -> StateUse:
    keys = plan.families[aggregate.family].name
    size = costs.aggregates.get(aggregate.fingerprint) if costs is not None else None
    family = costs.families.get(keys) if costs is not None else None
    return StateUse(aggregate_text(plan, aggregate), aggregate.fingerprint, keys, size, family)


# ---- who uses it ------------------------------------------------------------------------------


def _published(workspace: Workspace) -> bool:
    return workspace.bundles_folder.is_dir()


def _model_uses(workspace: Workspace, plan: Plan, features: list[Feature]) -> dict[str, list[ModelUse]]:
    """Return the versions that have each feature, newest first; a bundle that cannot be read is passed over."""
    if not _published(workspace):
        return {}
    from bowerbird.bundles.registry import Registry  # brings PyTorch, which takes seconds

    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    try:
        records = registry.versions()
    finally:
        registry.close()
    uses: dict[str, list[ModelUse]] = {feature.name: [] for feature in features}
    for record in reversed(records):
        try:
            bundled = bundled_plan(workspace.bundles_folder / record.path)
        except BowerbirdError:
            continue
        for feature in bundled.features:
            if feature.name in uses:
                same = _means_the_same(plan, bundled, feature.name)
                uses[feature.name].append(ModelUse(record.name, record.version, str(record.stage), same))
    return uses


def _means_the_same(plan: Plan, bundled: Plan, name: str) -> bool:
    """Return whether a bundle's feature is the project's, whatever constants were fitted for the bundle."""
    nodes = needed_nodes(plan, [plan.feature(name).node])
    constants = not any(fit.node in nodes for fit in plan.fits)
    return feature_fingerprint(bundled, name, constants) == feature_fingerprint(plan, name, constants)


# ---- names of frequent values -----------------------------------------------------------------


def _named(
    workspace: Workspace, plan: Plan, features: list[Feature], moments: dict[str, FeatureMoments]
) -> dict[str, FeatureMoments]:
    """Return the moments with the most frequent categories by their values, looked up in one column each."""
    names = Names()
    named = dict(moments)
    for feature in features:
        found = moments.get(feature.name)
        if found is None or found.category is None:
            continue
        names.add_node(plan.nodes[feature.node])
        if found.key not in names:
            _look_up(workspace, plan, feature, found.key, names)
        category = msgspec.structs.replace(found.category, most_frequent=str(names.value(found.key)))
        named[feature.name] = msgspec.structs.replace(found, category=category)
    return named


def _look_up(workspace: Workspace, plan: Plan, feature: Feature, key: int, names: Names) -> None:
    """Find a key's value in the imported log, a part at a time until it is found."""
    path = plan.nodes[feature.node].path
    if path is None:
        return
    slot = plan.slots[end_slot(path)]
    manifest = read_log_manifest(workspace.log_folder)
    for record in workspace.project.record_types:
        column = _column_in(record, slot.column or slot.name)
        if column is None:
            continue
        schema = record_schema(record)
        for part in manifest.of_type(record.name):
            values = read_part(workspace.log_folder, part, schema, [column]).column(column)
            names.add_column(values.unique(), slot.type, {key})
            if key in names:
                return


def _column_in(record: Event | Table, slot_name: str) -> str | None:
    """Return a record type's column that fills a slot; an attribute's slot is named ``table.column``."""
    if isinstance(record, Table):
        prefix = f"{record.name}."
        if record.entity.name == slot_name:
            return slot_name
        column = slot_name.removeprefix(prefix)
        return column if slot_name.startswith(prefix) and column in record.columns else None
    return (
        slot_name if slot_name in {entity.name for entity in record.entities} or slot_name in record.columns else None
    )
