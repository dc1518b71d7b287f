"""Parity: every logged feature and score computed again from the log, and compared.

A slate is scored again by the way that it was served by. In float32 its scores must be within 1e-5, whatever computed
them; in fewer bits they must be the same bits on a host as it was served on, and elsewhere within what the gates of the
version measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.bundles.bundle import Bundle, read_bundle, score_tolerance
from bowerbird.bundles.deltas import tables_at
from bowerbird.bundles.host import this_host
from bowerbird.bundles.live_tables import tables_of, with_tables
from bowerbird.bundles.scorer import Scorer
from bowerbird.bundles.way_results import is_exact
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError
from bowerbird.log.reader import LogReader
from bowerbird.monitoring.records import span
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import Engine, build_engine
from bowerbird.plan.spec import Plan
from bowerbird.serving.given import GivenFeatures
from bowerbird.serving.slate import Scores, Slate, SlateReference

_EXAMPLES = 10
ReplayedSlate = tuple[Slate, FeatureBlock]


class Difference(msgspec.Struct, frozen=True):
    """One logged value that replay does not give."""

    slate_id: str
    feature: str
    candidate: int
    logged: str
    replayed: str


class WayParity(msgspec.Struct, frozen=True):
    """The scores of one version by one way: how far they may differ (``allowed``; 0: not a bit), and how far they do.

    ``again`` is the way by which they were computed again.
    """

    model: str
    version: int
    way: str
    again: str
    allowed: float
    scores: int
    kept: int
    largest: float


class ParityReport(msgspec.Struct, frozen=True):
    """How many logged values replay gives bit for bit, and how far scores are from recomputed ones.

    ``unknown`` slates belong to a version whose bundle is gone; of ``without_deltas`` slates the scores were not
    compared, because embedding deltas that they were served with are gone. ``examples`` are the first differences.
    """

    slates: int
    values: int
    equal_values: int
    scores: int
    largest_score_difference: float
    scores_within_tolerance: int
    unknown: int
    examples: list[Difference]
    ways: list[WayParity] = []
    without_deltas: int = 0

    @property
    def holds(self) -> bool:
        """Whether every feature is bit-equal and every score as near as its way promises."""
        return self.values == self.equal_values and self.scores == self.scores_within_tolerance


def check_parity(
    workspace: Workspace, slates: Iterable[SlateReference], progress: Callable[[int], None] | None = None
) -> ParityReport:
    """Replay the log to each slate's LSN and compare features bit for bit, and scores as their way promises.

    One slate is loaded at a time; those that are removed meanwhile are left out.
    """
    by_version: dict[tuple[str, int], list[SlateReference]] = defaultdict(list)
    for slate in slates:
        by_version[slate.model, slate.version].append(slate)
    tally = _Tally()
    for (model, version), served in by_version.items():
        folder = workspace.bundles_folder / model / str(version)
        try:
            bundle = read_bundle(folder)
        except BowerbirdError:
            tally.unknown += len(served)
            continue
        given = GivenFeatures(bundle.plan)
        scorers: dict[tuple[str, str], _Again] = {}
        for slate, block in replay_slates(LogReader(workspace), bundle.plan, served):
            tally.compare(slate, block)
            key = slate.way, slate.host
            if key not in scorers:
                scorers[key] = _Again.of(bundle, slate)
            scorer = scorers[key].scorer_at(slate.delta)
            if scorer is None:
                tally.without_deltas += 1
            else:
                tally.compare_scores(slate, scorers[key], _scores(scorer, given, slate, block))
            if progress is not None:
                progress(tally.slates)
    return tally.report()


@dataclass
class _Again:
    """A version's scorer for slates that were served by one way on one host, and how near it must come.

    ``latest`` is it with the deltas of the last slate; slates mostly come in the order of deltas.
    """

    bundle: Bundle
    scorer: Scorer
    way: str
    allowed: float
    latest: Scorer

    def scorer_at(self, delta: int) -> Scorer | None:
        """Return the scorer with the tables as of a delta; None where deltas up to it are gone."""
        tables, first = tables_of(self.latest.model), tables_of(self.scorer.model)
        if tables is None or first is None:
            return self.scorer if delta == 0 else None
        try:
            at = tables_at(self.bundle, tables if tables.sequence <= delta else first, delta)
        except BowerbirdError:
            return None
        if at is not tables:
            self.latest = Scorer(with_tables(self.scorer.model, at), self.bundle.calibrations)
        return self.latest

    @classmethod
    def of(cls, bundle: Bundle, slate: Slate) -> _Again:
        """Return the scorer of a slate's own way or, where this host has not got that, of the plain one."""
        way = slate.way or bundle.plain_way
        try:
            scorer = bundle.load_scorer(way)
        except BowerbirdError:
            scorer = bundle.load_scorer()
            return cls(bundle, scorer, bundle.plain_way, score_tolerance(bundle, way), scorer)
        same_bits = not is_exact(way) and slate.host == this_host().fingerprint
        return cls(bundle, scorer, way, 0.0 if same_bits else score_tolerance(bundle, way), scorer)


def describe_parity(parity: ParityReport) -> list[str]:
    """Return the report in lines for a person."""
    share = parity.equal_values / parity.values if parity.values else 1.0
    lines = [
        f"Parity of {parity.slates:,} slates: {'holds' if parity.holds else 'DOES NOT HOLD'}",
        f"  features: {parity.equal_values:,} of {parity.values:,} bit-equal to replay ({share:.4%})",
        f"  scores:   {parity.scores_within_tolerance:,} of {parity.scores:,} as near as promised "
        f"(largest difference {parity.largest_score_difference:.2g})",
    ]
    lines += [f"  {_way_line(each)}" for each in parity.ways]
    if parity.unknown:
        lines.append(f"  {parity.unknown:,} slates belong to versions whose bundles are gone or damaged")
    if parity.without_deltas:
        lines.append(f"  {parity.without_deltas:,} slates were served with embedding deltas that are gone or damaged")
    lines += [
        f"  {each.slate_id} {each.feature}[{each.candidate}]: logged {each.logged}, replayed {each.replayed}"
        for each in parity.examples
    ]
    return lines


def _way_line(each: WayParity) -> str:
    promise = f"within {each.allowed:.1g}" if each.allowed else "the same bits"
    again = "" if each.again == each.way else f", computed again by {each.again}"
    return (
        f"{each.model} {each.version} by {each.way}{again}: {each.kept:,} of {each.scores:,} {promise} "
        f"(largest difference {each.largest:.2g})"
    )


def replay_slates(reader: LogReader, plan: Plan, slates: Sequence[SlateReference]) -> Iterator[ReplayedSlate]:
    """Yield each slate with its features as the log gives them, ascending by LSN."""
    encoder = Encoder(plan)
    engine = build_engine(plan)
    waiting = sorted(slates, key=lambda slate: slate.lsn)
    done = 0
    for batch in reader.batches(plan, encoder):
        end = batch.first_lsn + len(batch.records)
        while done < len(waiting) and waiting[done].lsn < end:
            _apply_until(engine, batch.first_lsn, batch.records, waiting[done].lsn)
            yield from _replayed(engine, encoder, waiting[done])
            done += 1
        if done == len(waiting):
            return
        _apply_until(engine, batch.first_lsn, batch.records, end)
    for reference in waiting[done:]:
        yield from _replayed(engine, encoder, reference)


def _apply_until(engine: Engine, first: int, records: RecordBatch, lsn: int) -> None:
    start, stop = engine.lsn - first, lsn - first
    if stop > start:
        engine.apply(span(records, start, stop))


def _replayed(engine: Engine, encoder: Encoder, reference: SlateReference) -> Iterator[ReplayedSlate]:
    slate = reference.load()
    if slate is not None:
        request = encoder.encode_request(slate.user, slate.context)
        yield slate, engine.read(slate.time, request, encoder.encode_items(slate.candidates))


def _scores(scorer: Scorer, given: GivenFeatures, slate: Slate, block: FeatureBlock) -> Scores:
    """Return scores as a slate logs them."""
    if not slate.candidates:
        return {}
    features = given.apply(block, slate.given, slate.candidate_given, len(slate.candidates))
    return {task: values.astype(np.float32) for task, values in scorer.score(features).items()}


def _columns(block: FeatureBlock) -> dict[str, npt.NDArray[np.generic]]:
    columns: dict[str, npt.NDArray[np.generic]] = {**block.categories, **block.numbers, **block.vectors}
    for name, ragged in block.sequences.items():
        columns |= {f"{name}.{field}": values for field, values in ragged.fields.items()}
        columns[f"{name}.age"] = ragged.age
        columns[f"{name}.offsets"] = ragged.offsets
    return columns


def _bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return values.view(np.uint32) if values.dtype == np.float32 else values


class _Tally:
    """Counts what was compared."""

    def __init__(self) -> None:
        self.slates = self.values = self.equal = self.unknown = self.without_deltas = 0
        self.examples: list[Difference] = []
        self._ways: dict[tuple[str, int, str, str, float], list[npt.NDArray[np.float64]]] = defaultdict(list)

    def compare(self, slate: Slate, replayed: FeatureBlock) -> None:
        self.slates += 1
        logged, again = _columns(slate.features), _columns(replayed)
        for name in logged.keys() | again.keys():
            self._compare_column(slate, name, logged.get(name), again.get(name))

    def _compare_column(
        self,
        slate: Slate,
        name: str,
        logged: npt.NDArray[np.generic] | None,
        again: npt.NDArray[np.generic] | None,
    ) -> None:
        if logged is None or again is None or logged.shape != again.shape or logged.dtype != again.dtype:
            self.values += max(1, 0 if again is None else len(again))
            self._example(slate, name, -1, "another shape" if logged is not None else "nothing", "")
            return
        equal = _bits(logged) == _bits(again)
        same = equal.all(axis=1) if equal.ndim == 2 else equal
        self.values += len(same)
        self.equal += int(same.sum())
        for row in np.flatnonzero(~same)[:_EXAMPLES]:
            self._example(slate, name, int(row), str(logged[row]), str(again[row]))

    def _example(self, slate: Slate, name: str, row: int, logged: str, replayed: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(Difference(slate.slate_id, name, row, logged, replayed))

    def compare_scores(self, slate: Slate, again: _Again, scores: Scores) -> None:
        key = slate.model, slate.version, slate.way or again.way, again.way, again.allowed
        self._ways[key] += [
            np.abs(slate.scores[task].astype(np.float64) - values) for task, values in scores.items()
        ]

    def report(self) -> ParityReport:
        ways = [_way_parity(*key, np.concatenate([*each, np.zeros(0)])) for key, each in self._ways.items()]
        return ParityReport(
            slates=self.slates,
            values=self.values,
            equal_values=self.equal,
            scores=sum(each.scores for each in ways),
            largest_score_difference=max((each.largest for each in ways), default=0.0),
            scores_within_tolerance=sum(each.kept for each in ways),
            unknown=self.unknown,
            examples=self.examples,
            ways=ways,
            without_deltas=self.without_deltas,
        )


def _way_parity(
    model: str, version: int, way: str, again: str, allowed: float, differences: npt.NDArray[np.float64]
) -> WayParity:
    kept = int((differences <= allowed).sum())
    largest = float(differences.max(initial=0.0))
    return WayParity(model, version, way, again, allowed, len(differences), kept, largest)
