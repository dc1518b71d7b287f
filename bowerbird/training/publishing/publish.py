"""From a finished run to a gated bundle in the registry."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from bowerbird.bundles.bundle import Bundle, read_bundle
from bowerbird.bundles.calibrate import Calibrations, calibrations_from_json
from bowerbird.bundles.gates import (
    GateLimits,
    auc_gate,
    calibration_gate,
    check_gates,
    log_loss_gate,
    parity_gate,
)
from bowerbird.bundles.golden import GoldenRequest, golden_request
from bowerbird.bundles.manifest import GateResult, Lineage, Manifest
from bowerbird.bundles.registry import Registry, VersionRecord, VersionStage
from bowerbird.bundles.scorer import LogitModel, Scorer
from bowerbird.bundles.staged_model import Way
from bowerbird.bundles.way_results import AUC_CHANGE, CALIBRATION_CHANGE, WayResult, is_exact, judged
from bowerbird.bundles.ways import LAST_RESORTS, PLAIN, has_ways, known_ways
from bowerbird.bundles.write import BundleFile, BundleParts, write_bundle
from bowerbird.embedding.served_table import RowFormat
from bowerbird.errors import BowerbirdError, InputError, MissingExtraError, StorageError
from bowerbird.plan.block_rows import take_rows
from bowerbird.plan.functions import read_function_files
from bowerbird.plan.spec import Plan
from bowerbird.training.batches.dataset import SampleFolder, SampleRows
from bowerbird.training.publishing.gate_samples import GateSamples
from bowerbird.training.publishing.way_judge import WayJudge
from bowerbird.training.publishing.ways import compare_scores
from bowerbird.training.quality.bootstrap import pcoc_interval
from bowerbird.training.quality.held_out import read_range
from bowerbird.training.quality.report import SCALARS
from bowerbird.training.run_record import CALIBRATION_FILE, METRICS_FILE, PLAN_FILE, RunRecord, read_run
from bowerbird.training.trained import Trained, load_trained

_GOLDEN_ROWS = (1, 7, 24)
_ATTEMPTS = 20
_WAY_ROWS = 20_000
"""So many evenly spread held-out samples judge a way in fewer bits, by the steps that serve: each as a request of its
own, or many together where no history is read."""
_EXACT_WAY_ROWS = 4_000
"""So many judge a way in float32, which must give each of them the same probability."""


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What to publish under which name; ``force`` publishes although a gate fails.

    ``rows`` is the format in which embedding rows are kept; one in fewer bits has a gate of its own.
    """

    run: Path
    samples_folder: Path
    bundles_folder: Path
    registry_url: str
    name: str
    promote: bool = False
    force: bool = False
    rows: RowFormat = "fp32"
    limits: GateLimits = field(default_factory=GateLimits)


@dataclass(frozen=True)
class PublishResult:
    """The published version, its bundle, and what each gate measured."""

    version: VersionRecord
    bundle: Bundle
    gates: list[GateResult]


def publish(request: PublishRequest) -> PublishResult:
    """Gate a finished run, write its bundle, record it, and on request make it live.

    Gates look at the test range, or at validation where the run has none. Raises GateError when one fails
    (unless forced), NotFoundError or InputError when run or samples are not there.
    """
    record = read_run(request.run)
    if record.status != "done":
        raise InputError(f"Run {record.id} is not finished.", f"Finish it with --resume {record.id}.")
    registry = Registry(request.registry_url, request.bundles_folder)
    try:
        return _publish(request, record, registry)
    finally:
        registry.close()


def _publish(request: PublishRequest, record: RunRecord, registry: Registry) -> PublishResult:
    plan = Plan.from_json((request.run / PLAN_FILE).read_bytes())
    read_function_files(plan, request.run)
    trained = load_trained(request.run, plan, record.settings)
    calibrations = calibrations_from_json((request.run / CALIBRATION_FILE).read_bytes())
    rows = _held_out(request, record)
    held = GateSamples(rows, record.settings.negative_rate)
    rounding = _rounded(trained, request.rows, calibrations, held)
    files = trained.bundle_files()
    published = trained.as_published(files)
    gates = rounding + _gates(request, registry, trained, published, calibrations, held)
    if not request.force:
        check_gates(gates)
    parts = BundleParts(
        plan=plan,
        calibrations=calibrations,
        metrics=msgspec.json.decode((request.run / METRICS_FILE).read_bytes()),
        golden=list(_golden(rows[0], trained, calibrations)),
    )
    ways = _ways(trained, published, calibrations, held)
    manifest = _manifest(request, record, trained, gates, ways)
    bundle = _write(request, registry, manifest, parts, files)
    version = _register(registry, bundle)
    if request.promote:
        registry.promote(version.name, version.version)
        version = registry.version(version.name, version.version)
    return PublishResult(version, bundle, gates)


def _held_out(request: PublishRequest, record: RunRecord) -> list[SampleRows]:
    settings = record.settings
    samples = SampleFolder(request.samples_folder / settings.samples)
    if samples.sha256 != settings.samples_sha256:
        raise InputError(
            f"The samples {settings.samples!r} have changed since run {record.id} was trained on them.",
            "Train again on the present ones.",
        )
    return read_range(samples, settings.split.test or settings.split.validation)


def _rounded(
    trained: Trained, rows: RowFormat, calibrations: Calibrations, held: GateSamples
) -> list[GateResult]:
    """Round a model's embedding rows to a format, and judge what that does to held-out scores as a way is judged.

    From here on the rounded model is the one that is published: its golden answers and ways are compared with it.
    """
    if rows == "fp32":
        return []
    exact = held.scores(trained, calibrations)
    trained.round_rows(rows)
    served = held.scores(trained, calibrations)
    tasks = [compare_scores(task, values, served[task], held.samples(task)) for task, values in exact.items()]
    result = judged(f"rows.{rows}", tasks)
    note = result.note or "; ".join(f"{task.task}: AUC {task.auc}, mean {task.calibration}" for task in tasks)
    allowed = f"AUC within {AUC_CHANGE:g}, mean within {CALIBRATION_CHANGE:g}"
    return [GateResult(result.name, result.passed, result.largest, allowed, note)]


def _gates(
    request: PublishRequest,
    registry: Registry,
    trained: Trained,
    published: LogitModel,
    calibrations: Calibrations,
    held: GateSamples,
) -> list[GateResult]:
    eager, exported = held.scores(trained, calibrations), held.scores(published, calibrations)
    worst = max(float(np.abs(eager[task] - exported[task]).max()) for task in eager)
    gates = [parity_gate(worst, request.limits)]
    for task, score in exported.items():
        interval = pcoc_interval(held.labels[task], score, held.weight, held.user)
        gates.append(calibration_gate(task, interval.estimate, interval.low, interval.high, request.limits))
    return gates + _live_gates(request, registry, held, exported)


def _live_gates(
    request: PublishRequest, registry: Registry, held: GateSamples, candidate: dict[str, np.ndarray]
) -> list[GateResult]:
    live = registry.live(request.name)
    if live is None:
        return []
    try:
        bundle = read_bundle(registry.folder_of(live.name, live.version))
        scores = held.scores(bundle.load_model(), bundle.calibrations)
    except BowerbirdError as error:
        note = f"the live version {live.version} cannot score these samples: {error.what}"
        return [GateResult("live", True, None, "comparable", note)]
    gates = []
    for task in candidate.keys() & scores.keys():
        ours, theirs = held.auc_and_loss(task, candidate[task]), held.auc_and_loss(task, scores[task])
        gates.append(auc_gate(task, ours[0], theirs[0], request.limits))
        gates.append(log_loss_gate(task, ours[1], theirs[1], request.limits))
    return sorted(gates, key=lambda gate: gate.name)


def _golden(rows: SampleRows, trained: Trained, calibrations: Calibrations) -> Iterator[GoldenRequest]:
    """Yield golden requests over evenly spread held-out samples."""
    scorer = Scorer(trained, calibrations)
    for count in _GOLDEN_ROWS:
        chosen = np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))
        block = take_rows(rows.block, chosen)
        yield golden_request(block, scorer.score(block))


def _ways(trained: Trained, published: LogitModel, calibrations: Calibrations, held: GateSamples) -> list[WayResult]:
    """Return what each way of serving beside the plain one does to the held-out scores, by the steps that serve."""
    if not has_ways(published):
        return []
    judges = {
        exact: WayJudge(held.spread(rows), trained, calibrations)
        for exact, rows in ((True, _EXACT_WAY_ROWS), (False, _WAY_ROWS))
    }
    results: list[WayResult] = []
    with tempfile.TemporaryDirectory() as cache:
        for name, way in known_ways().items():
            if name != PLAIN:
                others = [each.name for each in results if each.passed and each.exact]
                results.append(_way(judges[is_exact(name)], published, replace(way, cache=Path(cache)), others))
    return results


def _way(judge: WayJudge, published: LogitModel, way: Way, others: list[str]) -> WayResult:
    """Return what a way does to the scores; a last resort is not looked at where ``others`` serve in float32."""
    if way.backend.name in LAST_RESORTS and others:
        return WayResult(way.name, False, [], f"{others[0]} serves this version, and faster")
    try:
        return judge.result(way.name, published, way)
    except (InputError, MissingExtraError) as error:
        return WayResult(way.name, False, [], error.what)


def _manifest(
    request: PublishRequest, record: RunRecord, trained: Trained, gates: list[GateResult], ways: list[WayResult]
) -> Manifest:
    settings = record.settings
    return Manifest(
        name=request.name,
        version=0,
        kind=trained.kind,
        model=settings.model,
        plan_fingerprint=settings.plan,
        tasks=settings.tasks,
        lineage=Lineage(record.id, settings.samples, settings.samples_sha256, settings.plan, record.code),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options=settings.options,
        embedding=settings.embedding,
        gates=gates,
        forced=request.force and not all(gate.passed for gate in gates),
        ways=ways,
    )


def _write(
    request: PublishRequest,
    registry: Registry,
    manifest: Manifest,
    parts: BundleParts,
    files: dict[str, BundleFile],
) -> Bundle:
    """Write the bundle under the first free number; the rename decides between two publishers."""
    folder = request.bundles_folder / request.name
    number = registry.next_version(request.name)
    for attempt in range(_ATTEMPTS):
        target = folder / str(number + attempt)
        if target.exists():
            continue
        numbered = msgspec.structs.replace(manifest, version=number + attempt)
        try:
            return write_bundle(target, numbered, parts, files)
        except StorageError:
            if not target.exists():
                raise
    raise StorageError(f"No free version number from {number} on in {folder}.", "Publish again.")


def _register(registry: Registry, bundle: Bundle) -> VersionRecord:
    manifest = bundle.manifest
    held = bundle.metrics.get("test") or bundle.metrics["validation"]
    version = VersionRecord(
        name=manifest.name,
        version=manifest.version,
        stage=VersionStage.CANDIDATE,
        path=f"{manifest.name}/{manifest.version}",
        digest=bundle.digest,
        kind=manifest.kind,
        lineage=manifest.lineage,
        metrics={
            task: {name: value for name, value in values.items() if name in SCALARS} for task, values in held.items()
        },
        created=manifest.created,
    )
    registry.add(version)
    return version
