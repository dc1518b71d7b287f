"""What a model leans on: how much worse it gets when one feature's values are dealt out anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from bowerbird.bundles.calibrate import Calibrations, calibrate
from bowerbird.bundles.scorer import LogitModel, Logits
from bowerbird.embedding.rows import PaddedSequence, RowBlock
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.block_rows import chunks, take_rows
from bowerbird.training.batches.dataset import Labels, SampleRows
from bowerbird.training.network import Network
from bowerbird.training.quality.bootstrap import Interval
from bowerbird.training.quality.influence import Influence, auc_influence, clustered, log_loss_influence
from bowerbird.training.quality.metrics import Floats

REPEATS = 5
_CHUNK = 4096

Indices = npt.NDArray[np.int64]


class Importance(msgspec.Struct, frozen=True):
    """What dealing out a feature anew costs a task: AUC lost and log loss (nats) added, with 95% intervals."""

    feature: str
    auc: Interval
    log_loss: Interval


class Columns(Protocol):
    """Samples of a model, one of whose features can be dealt out anew."""

    @property
    def features(self) -> list[str]:
        """The features, sequences as a whole."""
        ...

    def logits(self, feature: str = "", order: Indices | None = None) -> dict[str, Logits]:
        """Return logits by task, row r having row ``order[r]``'s value of ``feature``."""
        ...


class BlockColumns:
    """Samples of any model, as they were read."""

    def __init__(self, model: LogitModel, block: FeatureBlock, rows: int) -> None:
        self._model = model
        self._block = block
        self._rows = rows

    @property
    def features(self) -> list[str]:
        """The features, sequences as a whole."""
        block = self._block
        return [*block.categories, *block.numbers, *block.sequences, *block.vectors]

    def logits(self, feature: str = "", order: Indices | None = None) -> dict[str, Logits]:
        """Return logits by task, row r having row ``order[r]``'s value of ``feature``."""
        block = self._block if order is None else _with_permuted(self._block, feature, order)
        return _joined([self._model.logits(chunk) for chunk in chunks(block, self._rows, _CHUNK)])


class EncodedColumns:
    """Samples of a network, whose keys are looked up once and not again for every feature."""

    def __init__(self, network: Network, block: FeatureBlock) -> None:
        self._network = network
        self._rows = network.collection.encode(block)

    @property
    def features(self) -> list[str]:
        """The features, sequences as a whole."""
        rows = self._rows
        return [*rows.categories, *rows.numbers, *rows.sequences, *rows.vectors]

    def logits(self, feature: str = "", order: Indices | None = None) -> dict[str, Logits]:
        """Return logits by task, row r having row ``order[r]``'s value of ``feature``."""
        parts = []
        with torch.inference_mode():
            for start in range(0, self._rows.count, _CHUNK):
                plain = np.arange(start, min(start + _CHUNK, self._rows.count))
                taken = _take(self._rows, plain, feature, plain if order is None else order[plain])
                outputs = self._network.model(self._network.collection(taken))
                parts.append({task: values.float().numpy() for task, values in outputs.items()})
        return _joined(parts)


def permutation_importance(
    columns: Columns,
    rows: SampleRows,
    weight: Floats,
    calibrations: Calibrations,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    follow: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Importance]]:
    """Return by task what each feature is worth, the most valuable first (Breiman, 2001).

    A feature's values are dealt out anew among the samples of a day, so that their distribution stays and their
    meaning goes; a sequence goes as a whole. Two features that say the same each look worth little: the other one is
    still there. Intervals count users as draws and add the spread between ``repeats``. ``follow`` hears each
    feature's name before it is looked at.
    """
    judge = _Judge(rows.labels, weight, rows.user, calibrations, rows.block.categories)
    base = judge.judged(columns.logits())
    days = rows.time // 86_400_000_000
    result: dict[str, list[Importance]] = {task: [] for task in base}
    for feature in columns.features:
        follow(feature)
        random = np.random.default_rng([seed, *feature.encode()])
        orders = [shuffled_within(days, random) for _ in range(repeats)]
        redealt = [judge.judged(columns.logits(feature, order), feature, order) for order in orders]
        for task, found in result.items():
            auc = [base[task][0] - one[task][0] for one in redealt]
            loss = [one[task][1] - base[task][1] for one in redealt]
            found.append(Importance(feature, judge.interval(task, auc), judge.interval(task, loss)))
    return {
        task: sorted(found, key=lambda one: np.nan_to_num(one.log_loss.estimate), reverse=True)
        for task, found in result.items()
    }


def shuffled_within(groups: npt.NDArray[np.int64], random: np.random.Generator) -> Indices:
    """Return a random order of rows, int64 [rows], that takes each place's row from the same group."""
    places = np.argsort(groups, kind="stable")
    drawn = places[np.argsort(groups[places] + random.random(len(groups)) * 0.5, kind="stable")]
    order = np.empty(len(groups), np.int64)
    order[places] = drawn
    return order


class _Judge:
    """Labels by task, to judge logits by AUC and log loss."""

    def __init__(
        self,
        labels: Labels,
        weight: Floats,
        user: Keys,
        calibrations: Calibrations,
        categories: Mapping[str, Keys],
    ) -> None:
        self._calibrations = calibrations
        self._categories = categories
        self._mature = {task: ~np.isnan(label) for task, label in labels.items()}
        self._labels = {task: label[self._mature[task]].astype(np.float64) for task, label in labels.items()}
        self._weight = {task: weight[kept].astype(np.float64) for task, kept in self._mature.items()}
        self._owner = {task: np.unique(user[kept], return_inverse=True)[1] for task, kept in self._mature.items()}

    def judged(
        self, logits: dict[str, Logits], feature: str = "", order: Indices | None = None
    ) -> dict[str, tuple[Influence, Influence]]:
        """Return AUC and log loss by task; a calibration by ``feature`` sees it dealt out anew, too."""
        categories = dict(self._categories)
        if order is not None and feature in categories:
            categories[feature] = categories[feature][order]
        judged = {}
        for task, values in logits.items():
            score = calibrate(self._calibrations[task], values, categories)[self._mature[task]]
            args = (self._labels[task], score, self._weight[task])
            judged[task] = auc_influence(*args), log_loss_influence(*args)
        return judged

    def interval(self, task: str, changes: list[Influence]) -> Interval:
        """Return the mean change with its 95% interval."""
        values = np.array([change.value for change in changes])
        mean = Influence(float(values.mean()), np.mean([change.influence for change in changes], axis=0))
        between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
        return clustered(mean, self._owner[task], between).interval()


def _with_permuted(block: FeatureBlock, feature: str, order: Indices) -> FeatureBlock:
    def part(columns: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.generic]]:
        return {feature: columns[feature]} if feature in columns else {}

    alone = FeatureBlock(
        part(block.categories),  # type: ignore[arg-type]
        part(block.numbers),  # type: ignore[arg-type]
        {feature: block.sequences[feature]} if feature in block.sequences else {},
        block.lsn,
        part(block.vectors),  # type: ignore[arg-type]
    )
    taken = take_rows(alone, order)
    return FeatureBlock(
        {**block.categories, **taken.categories},
        {**block.numbers, **taken.numbers},
        block.sequences | taken.sequences,
        block.lsn,
        block.vectors | taken.vectors,
    )


def _take(rows: RowBlock, plain: Indices, feature: str, order: Indices) -> RowBlock:
    """Return rows ``plain`` of every feature but one, of which it takes ``order``."""

    def places(name: str) -> Indices:
        return order if name == feature else plain

    return RowBlock(
        {name: values[places(name)] for name, values in rows.categories.items()},
        {name: values[places(name)] for name, values in rows.numbers.items()},
        {name: _take_sequence(sequence, places(name)) for name, sequence in rows.sequences.items()},
        {name: values[places(name)] for name, values in rows.vectors.items()},
    )


def _take_sequence(sequence: PaddedSequence, places: Indices) -> PaddedSequence:
    return PaddedSequence(
        {name: values[places] for name, values in sequence.categories.items()},
        {name: values[places] for name, values in sequence.numbers.items()},
        sequence.age[places],
        sequence.mask[places],
    )


def _joined(parts: list[dict[str, Logits]]) -> dict[str, Logits]:
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}
