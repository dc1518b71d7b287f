"""Live metrics: what the served versions predicted, joined with what was shown and done."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from bowerbird.declare.workspace import Workspace
from bowerbird.log.reader import LogReader
from bowerbird.log.slate_id import made_before
from bowerbird.monitoring.coverage import CoverageCounter, FeatureCoverage
from bowerbird.plan.encode import encode_column
from bowerbird.samples.labels import IMMATURE, join_labels
from bowerbird.serving.slate import Slate
from bowerbird.training.quality.metrics import Metrics, measure


class VersionMetrics(msgspec.Struct, frozen=True):
    """One version's live metrics for one label; ``rate`` is positives per mature exposure (CTR for clicks)."""

    model: str
    version: int
    label: str
    exposures: int
    immature: int
    rate: float
    metrics: Metrics | None


class LiveReport(msgspec.Struct, frozen=True):
    """What the server's answers led to.

    ``unmatched`` exposures name a slate or an item that no answer held; ``older`` ones name slates from before those
    that were read, which retention may have removed. ``calibration`` has, for each label, ten equal groups of
    predictions: (mean prediction, observed rate, exposures).
    """

    slates: int
    exposures: int
    unmatched: int
    older: int
    versions: list[VersionMetrics]
    coverage: list[FeatureCoverage]
    calibration: dict[str, list[tuple[float, float, int]]]


class _Predictions:
    """Scores of the exposures that answers led to, by version and label."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.scores: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, slate: Slate, row: int, position: int) -> None:
        key = (slate.model, slate.version)
        self.rows[key].append(row)
        for label, scores in slate.scores.items():
            self.scores[key][label].append(float(scores[position]))


def measure_live(workspace: Workspace, slates: Iterable[Slate]) -> LiveReport:
    """Return live metrics by version and label, and the coverage of the features that were served."""
    reader = LogReader(workspace)
    exposures = reader.exposures({})
    exposures = exposures.filter(pc.is_valid(exposures.column("slate_id")))
    item = workspace.project.item.name
    shown: dict[str, list[tuple[int, object]]] = defaultdict(list)
    for row, (slate_id, shown_item) in enumerate(
        zip(exposures.column("slate_id").to_pylist(), exposures.column(item).to_pylist(), strict=True)
    ):
        shown[slate_id].append((row, shown_item))
    predictions, coverage = _Predictions(), CoverageCounter()
    served = matched = 0
    first = math.inf
    for slate in slates:
        served += 1
        first = min(first, slate.time)
        coverage.add(slate.features)
        positions = {candidate: at for at, candidate in enumerate(slate.candidates)}
        for row, shown_item in shown.pop(slate.slate_id, ()):
            if shown_item in positions:
                predictions.add(slate, row, positions[shown_item])
                matched += 1
    older = sum(len(rows) for slate_id, rows in shown.items() if made_before(slate_id, first))
    labels = join_labels(workspace.project, reader, exposures, reader.frontier)
    users = encode_column(exposures.column(workspace.project.user.name), workspace.project.user.id.value)
    return LiveReport(
        slates=served,
        exposures=exposures.num_rows,
        unmatched=exposures.num_rows - matched - older,
        older=older,
        versions=_versions(predictions, labels, users),
        coverage=coverage.report(),
        calibration=_calibration(predictions, labels),
    )


def _versions(
    predictions: _Predictions, labels: dict[str, npt.NDArray[np.int8]], users: npt.NDArray[np.uint64]
) -> list[VersionMetrics]:
    found = []
    for (model, version), rows in sorted(predictions.rows.items()):
        for label, scores in predictions.scores[model, version].items():
            if label not in labels:
                continue
            outcome = labels[label][rows]
            mature = outcome != IMMATURE
            truth = np.where(mature, outcome, np.nan).astype(np.float64)
            weight = np.ones(len(rows))
            metrics = measure(truth, np.array(scores), weight, users[rows]) if mature.any() else None
            rate = float(outcome[mature].mean()) if mature.any() else float("nan")
            found.append(VersionMetrics(model, version, label, len(rows), int((~mature).sum()), rate, metrics))
    return found


def _calibration(
    predictions: _Predictions, labels: dict[str, npt.NDArray[np.int8]], groups: int = 10
) -> dict[str, list[tuple[float, float, int]]]:
    scores: dict[str, list[float]] = defaultdict(list)
    truths: dict[str, list[int]] = defaultdict(list)
    for key, rows in predictions.rows.items():
        for label, values in predictions.scores[key].items():
            if label in labels:
                scores[label].extend(values)
                truths[label].extend(int(labels[label][row]) for row in rows)
    return {label: _groups(np.array(scores[label]), np.array(truths[label]), groups) for label in scores}


def _groups(
    scores: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], groups: int
) -> list[tuple[float, float, int]]:
    mature = truth != IMMATURE
    order = np.argsort(scores[mature], kind="stable")
    parts = np.array_split(order, groups)
    ordered_scores, ordered_truth = scores[mature], truth[mature]
    return [
        (float(ordered_scores[part].mean()), float(ordered_truth[part].mean()), len(part))
        for part in parts
        if len(part)
    ]
