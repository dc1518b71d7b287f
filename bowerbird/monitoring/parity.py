"""Parity: every logged feature and score computed again from the log, and compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.bundles.bundle import read_bundle
from bowerbird.bundles.scorer import Scorer
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
from bowerbird.serving.slate import Slate

SCORE_TOLERANCE = 1e-5
_EXAMPLES = 10
ReplayedSlate = tuple[Slate, FeatureBlock]


class Difference(msgspec.Struct, frozen=True):
    """One logged value that replay does not give."""

    slate_id: str
    feature: str
    candidate: int
    logged: str
    replayed: str


class ParityReport(msgspec.Struct, frozen=True):
    """How many logged values replay gives bit for bit, and how far scores are from recomputed ones.

    ``unknown`` slates belong to a version whose bundle is gone. ``examples`` are the first differences.
    """

    slates: int
    values: int
    equal_values: int
    scores: int
    largest_score_difference: float
    scores_within_tolerance: int
    unknown: int
    examples: list[Difference]

    @property
    def holds(self) -> bool:
        """Whether every feature is bit-equal and every score within 1e-5."""
        return self.values == self.equal_values and self.scores == self.scores_within_tolerance


def check_parity(
    workspace: Workspace, slates: Iterable[Slate], progress: Callable[[int], None] | None = None
) -> ParityReport:
    """Replay the log to each slate's LSN and compare features bit for bit and scores within 1e-5."""
    by_version: dict[tuple[str, int], list[Slate]] = defaultdict(list)
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
        scorer = bundle.load_scorer()
        given = GivenFeatures(bundle.plan)
        for slate, block in replay_slates(LogReader(workspace), bundle.plan, served):
            tally.compare(slate, block)
            tally.compare_scores(slate, _scores(scorer, given, slate, block))
            if progress is not None:
                progress(tally.slates)
    return tally.report()


def describe_parity(parity: ParityReport) -> list[str]:
    """Return the report in lines for a person."""
    share = parity.equal_values / parity.values if parity.values else 1.0
    lines = [
        f"Parity of {parity.slates:,} slates: {'holds' if parity.holds else 'DOES NOT HOLD'}",
        f"  features: {parity.equal_values:,} of {parity.values:,} bit-equal to replay ({share:.4%})",
        f"  scores:   {parity.scores_within_tolerance:,} of {parity.scores:,} within 1e-5 "
        f"(largest difference {parity.largest_score_difference:.2g})",
    ]
    if parity.unknown:
        lines.append(f"  {parity.unknown:,} slates belong to versions whose bundles are gone or damaged")
    lines += [
        f"  {each.slate_id} {each.feature}[{each.candidate}]: logged {each.logged}, replayed {each.replayed}"
        for each in parity.examples
    ]
    return lines


def replay_slates(reader: LogReader, plan: Plan, slates: Sequence[Slate]) -> Iterator[ReplayedSlate]:
    """Yield each slate with its features as the log gives them, ascending by LSN."""
    encoder = Encoder(plan)
    engine = build_engine(plan)
    waiting = sorted(slates, key=lambda slate: slate.lsn)
    done = 0
    for batch in reader.batches(plan, encoder):
        end = batch.first_lsn + len(batch.records)
        while done < len(waiting) and waiting[done].lsn < end:
            _apply_until(engine, batch.first_lsn, batch.records, waiting[done].lsn)
            yield waiting[done], _read(engine, encoder, waiting[done])
            done += 1
        if done == len(waiting):
            return
        _apply_until(engine, batch.first_lsn, batch.records, end)
    for slate in waiting[done:]:
        yield slate, _read(engine, encoder, slate)


def _apply_until(engine: Engine, first: int, records: RecordBatch, lsn: int) -> None:
    start, stop = engine.lsn - first, lsn - first
    if stop > start:
        engine.apply(span(records, start, stop))


def _read(engine: Engine, encoder: Encoder, slate: Slate) -> FeatureBlock:
    request = encoder.encode_request(slate.user, slate.context)
    return engine.read(slate.time, request, encoder.encode_items(slate.candidates))


def _scores(
    scorer: Scorer, given: GivenFeatures, slate: Slate, block: FeatureBlock
) -> dict[str, npt.NDArray[np.float64]]:
    if not slate.candidates:
        return {}
    return scorer.score(given.apply(block, slate.given, slate.candidate_given, len(slate.candidates)))


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
        self.slates = self.values = self.equal = self.scores = self.near = self.unknown = 0
        self.largest = 0.0
        self.examples: list[Difference] = []

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

    def compare_scores(self, slate: Slate, again: dict[str, npt.NDArray[np.float64]]) -> None:
        for task, values in again.items():
            difference = np.abs(slate.scores[task].astype(np.float64) - values)
            self.scores += len(difference)
            self.near += int((difference <= SCORE_TOLERANCE).sum())
            self.largest = max(self.largest, float(difference.max(initial=0.0)))

    def report(self) -> ParityReport:
        return ParityReport(
            self.slates,
            self.values,
            self.equal,
            self.scores,
            self.largest,
            self.near,
            self.unknown,
            self.examples,
        )
