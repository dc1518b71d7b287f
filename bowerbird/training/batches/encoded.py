"""Samples in memory with keys already replaced by table rows: a batch is a few gathers of whole rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.inputs import field_vocabulary, vocabulary_of
from bowerbird.embedding.matrix import Matrix, empty_matrix, matrix_of, untouched
from bowerbird.embedding.rows import PaddedSequence, RowBlock, Rows, known_vectors
from bowerbird.kernels.padding import pad_events
from bowerbird.models.ranker import NumberColumns
from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Offsets
from bowerbird.training.batches.dataset import Labels, SampleRows

Indices = npt.NDArray[np.int64]
Times = npt.NDArray[np.int64]

_AGE = "age"
_WEIGHT = "(weight)"
_MARKS = ("user", "item", "time", "file", "row")


@dataclass(frozen=True)
class FlatSequence:
    """Sequences end to end: those of sample r are events ``starts[r]`` to ``ends[r]``, oldest first.

    ``categories`` int32 (table rows) and ``numbers`` float32 (``age`` is the last column) are [events + 1,
    columns]; the last event is zero and stands for padding.
    """

    starts: Offsets
    ends: Offsets
    categories: Matrix[np.int32]
    numbers: Matrix[np.float32]
    length: int

    @property
    def events(self) -> int:
        """How many events there are, the padding not counted."""
        return len(self.numbers.values) - 1

    def batch(self, indices: Indices) -> PaddedSequence:
        """Return the padded sequences of some samples."""
        starts, ends = np.take(self.starts, indices), np.take(self.ends, indices)
        rows, values, mask = pad_events(starts, ends, self.categories.values, self.numbers.values, self.length)
        numbers = Matrix(self.numbers.names, values).columns()
        age = numbers.pop(_AGE)
        return PaddedSequence(dict(Matrix(self.categories.names, rows).columns()), numbers, age, mask)


@dataclass(frozen=True)
class Origin:
    """Where samples were read: ``file`` int64 [rows] is a place in ``files``, ``row`` int64 [rows] one in the file."""

    files: tuple[str, ...]
    file: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]

    def describe(self, sample: int) -> str:
        """Return the file and row of one sample."""
        return f"{self.files[int(self.file[sample])]}, row {int(self.row[sample])}"


@dataclass(frozen=True)
class Marks:
    """What identifies samples: ``user`` and ``item`` uint64 keys and ``time`` int64 microseconds, all [rows].

    ``origin`` is None for samples that were never in files.
    """

    user: Keys
    item: Keys
    time: Times
    origin: Origin | None = None


@dataclass(frozen=True)
class Batch:
    """Samples for one step: rows for the lookup, labels (NaN while immature) and weights.

    ``read_marks`` says which samples they are; most steps do not ask.
    """

    rows: RowBlock
    labels: Labels
    weight: Numbers
    read_marks: Callable[[], Marks]

    def __len__(self) -> int:
        return len(self.weight)

    @cached_property
    def marks(self) -> Marks:
        """Which samples these are."""
        return self.read_marks()


@dataclass(frozen=True)
class EncodedSamples:
    """Some samples, column-wise in matrices: of categories (int32 table rows), numbers, labels with the weight as
    last column (all float32), and of what identifies a sample (int64: user and item keys, time, file, row).
    """

    category_matrix: Matrix[np.int32]
    number_matrix: Matrix[np.float32]
    sequences: dict[str, FlatSequence]
    target_matrix: Matrix[np.float32]
    mark_matrix: Matrix[np.int64]
    vectors: dict[str, Numbers] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.mark_matrix.values)

    @property
    def categories(self) -> dict[str, Rows]:
        """Table rows by feature, int32 [rows], views."""
        return dict(self.category_matrix.columns())

    @property
    def numbers(self) -> dict[str, Numbers]:
        """Numbers by feature, float32 [rows], views."""
        return self.number_matrix.columns()

    @property
    def labels(self) -> Labels:
        """Labels by task, float32 [rows], views."""
        return _labels(self.target_matrix)

    @property
    def weight(self) -> Numbers:
        """Weights, float32 [rows], a view."""
        return self.target_matrix[_WEIGHT]

    @property
    def user(self) -> Keys:
        """Keys of users, uint64 [rows], a view."""
        return self.mark_matrix["user"].view(np.uint64)

    @property
    def item(self) -> Keys:
        """Keys of items, uint64 [rows], a view."""
        return self.mark_matrix["item"].view(np.uint64)

    @property
    def time(self) -> Times:
        """Event times in microseconds, int64 [rows], a view."""
        return self.mark_matrix["time"]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays: list[npt.NDArray[Any]] = [self.category_matrix.values, self.number_matrix.values]
        arrays += [self.target_matrix.values, self.mark_matrix.values, *self.vectors.values()]
        for flat in self.sequences.values():
            arrays += [flat.starts, flat.ends, flat.categories.values, flat.numbers.values]
        return sum(array.nbytes for array in arrays)

    def span(self, start: int, stop: int) -> EncodedSamples:
        """Return the samples from row ``start`` to ``stop``, views."""
        sequences = {
            name: replace(flat, starts=flat.starts[start:stop], ends=flat.ends[start:stop])
            for name, flat in self.sequences.items()
        }
        return EncodedSamples(
            self.category_matrix.span(start, stop),
            self.number_matrix.span(start, stop),
            sequences,
            self.target_matrix.span(start, stop),
            self.mark_matrix.span(start, stop),
            {name: values[start:stop] for name, values in self.vectors.items()},
            self.files,
        )

    def event_counts(self, indices: Indices) -> dict[str, int]:
        """Return how many events the sequences of some samples have."""
        return {
            name: int((flat.ends[indices] - flat.starts[indices]).sum()) for name, flat in self.sequences.items()
        }

    def batch(self, indices: Indices) -> Batch:
        """Return the samples at ``indices``; its columns are views of a few matrices."""
        rows = RowBlock(
            self.category_matrix.take(indices).columns(),
            self.number_matrix.take(indices).columns(),
            {name: sequence.batch(indices) for name, sequence in self.sequences.items()},
            {name: np.take(values, indices, axis=0) for name, values in self.vectors.items()},
        )
        targets = self.target_matrix.take(indices)
        return Batch(rows, _labels(targets), targets[_WEIGHT], partial(_marks, self.mark_matrix, self.files, indices))

    def batches(self, order: Indices, size: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches of ``size`` rows in the given order, from batch number ``first`` on."""
        for start in range(first * size, len(order), size):
            yield self.batch(order[start : start + size])

    def number_columns(self, limit: int = 200_000) -> NumberColumns:
        """Return values of every number tensor by name, evenly thinned to about ``limit`` values each."""
        columns = dict(self.numbers)
        for name, sequence in self.sequences.items():
            for field_name, values in sequence.numbers.columns().items():
                columns[f"{name}.age" if field_name == _AGE else field_name] = values[:-1]
        return {name: values[:: max(1, len(values) // limit)].copy() for name, values in columns.items()}


def _labels(targets: Matrix[np.float32]) -> Labels:
    labels = targets.columns()
    del labels[_WEIGHT]
    return labels


def _marks(matrix: Matrix[np.int64], files: tuple[str, ...], indices: Indices) -> Marks:
    taken = matrix.take(indices)
    user, item = taken["user"].view(np.uint64), taken["item"].view(np.uint64)
    return Marks(user, item, taken["time"], Origin(files, taken["file"], taken["row"]))


def base_rates(samples: EncodedSamples) -> dict[str, float]:
    """Return each label's weighted share of positives among mature samples; one half without any."""
    rates = RateCounter()
    rates.add(samples.labels, samples.weight)
    return rates.rates()


class RateCounter:
    """Adds up the weight of mature samples and of positives among them, by task."""

    def __init__(self) -> None:
        self._mass: dict[str, float] = {}
        self._positive: dict[str, float] = {}

    def add(self, labels: Labels, weight: Numbers) -> None:
        """Count some samples; float32 [rows] each."""
        for task, label in labels.items():
            mass = np.where(np.isnan(label), 0.0, weight)
            self._mass[task] = self._mass.get(task, 0.0) + float(mass.sum())
            self._positive[task] = self._positive.get(task, 0.0) + float((np.nan_to_num(label) * mass).sum())

    def rates(self) -> dict[str, float]:
        """Return the positives' share of the weight by task; one half where there is no mature sample."""
        return {task: self._positive[task] / mass if mass > 0 else 0.5 for task, mass in self._mass.items()}


class SampleEncoder:
    """Fills one ``EncodedSamples`` of a known number of rows, part by part, each row to its place.

    ``events`` is an upper bound of the events of each sequence; memory beyond the true number is never touched.
    """

    def __init__(self, collection: EmbeddingCollection, rows: int, events: dict[str, int]) -> None:
        self._collection = collection
        self._rows = rows
        self._events = events
        self._used = dict.fromkeys(events, 0)
        self._files: dict[str, int] = {}
        self._encoded: EncodedSamples | None = None

    def put(self, part: SampleRows, places: Indices | None = None, keep: Indices | None = None) -> None:
        """Encode ``part`` (its rows ``keep``, or all) into rows ``places``, or into all rows for None."""
        encoded = _encode_part(self._collection, part)
        kept = np.arange(len(part)) if keep is None else keep
        self.copy(encoded, np.arange(self._rows) if places is None else places, kept)

    def copy(self, part: EncodedSamples, places: Indices, kept: Indices) -> None:
        """Copy rows ``kept`` of encoded samples to rows ``places``."""
        whole = self._whole(part)
        for target, source in (
            (whole.category_matrix, part.category_matrix),
            (whole.number_matrix, part.number_matrix),
            (whole.target_matrix, part.target_matrix),
            (whole.mark_matrix, part.mark_matrix),
        ):
            target.values[places] = np.take(source.values, kept, axis=0)
        numbers = np.array([self._files.setdefault(file, len(self._files)) for file in part.files], np.int64)
        if len(numbers):
            whole.mark_matrix["file"][places] = numbers[part.mark_matrix["file"][kept]]
        for name, values in whole.vectors.items():
            values[places] = part.vectors[name][kept]
        for name, sequence in whole.sequences.items():
            self._used[name] += _append(sequence, part.sequences[name], places, kept, self._used[name])

    def finish(self) -> EncodedSamples:
        """Return the samples; every row must have been filled."""
        whole = self._encoded
        if whole is None:
            return _no_samples()
        sequences = {name: _ended(flat, self._used[name]) for name, flat in whole.sequences.items()}
        rest = (whole.target_matrix, whole.mark_matrix, whole.vectors, tuple(self._files))
        return EncodedSamples(whole.category_matrix, whole.number_matrix, sequences, *rest)

    def _whole(self, like: EncodedSamples) -> EncodedSamples:
        if self._encoded is None:
            self._encoded = EncodedSamples(
                empty_matrix(like.category_matrix.names, self._rows, np.int32),
                empty_matrix(like.number_matrix.names, self._rows, np.float32),
                {
                    name: FlatSequence(
                        np.zeros(self._rows, np.int64),
                        np.zeros(self._rows, np.int64),
                        empty_matrix(flat.categories.names, self._events[name] + 1, np.int32),
                        empty_matrix(flat.numbers.names, self._events[name] + 1, np.float32),
                        flat.length,
                    )
                    for name, flat in like.sequences.items()
                },
                empty_matrix(like.target_matrix.names, self._rows, np.float32),
                empty_matrix(like.mark_matrix.names, self._rows, np.int64),
                {name: untouched((self._rows, values.shape[1]), np.float32) for name, values in like.vectors.items()},
            )
        return self._encoded


def _append(target: FlatSequence, source: FlatSequence, places: Indices, kept: Indices, used: int) -> int:
    """Append the events of samples ``kept`` after ``used`` events; return how many."""
    starts, ends = source.starts[kept], source.ends[kept]
    lengths = ends - starts
    offsets = used + np.cumsum(lengths) - lengths
    count = int(lengths.sum())
    events = np.repeat(starts - offsets, lengths) + np.arange(used, used + count)
    np.take(source.categories.values, events, axis=0, out=target.categories.values[used : used + count], mode="clip")
    np.take(source.numbers.values, events, axis=0, out=target.numbers.values[used : used + count], mode="clip")
    target.starts[places] = offsets
    target.ends[places] = offsets + lengths
    return count


def _ended(flat: FlatSequence, used: int) -> FlatSequence:
    categories, numbers = flat.categories.values[: used + 1], flat.numbers.values[: used + 1]
    categories[used] = 0
    numbers[used] = 0
    columns = (Matrix(flat.categories.names, categories), Matrix(flat.numbers.names, numbers))
    return FlatSequence(flat.starts, flat.ends, *columns, flat.length)


def _no_samples() -> EncodedSamples:
    numbers = empty_matrix((), 0, np.float32)
    targets, marks = empty_matrix((_WEIGHT,), 0, np.float32), empty_matrix(_MARKS, 0, np.int64)
    return EncodedSamples(empty_matrix((), 0, np.int32), numbers, {}, targets, marks)


def _encode_part(collection: EmbeddingCollection, part: SampleRows) -> EncodedSamples:
    block, plan, rows = part.block, collection.plan, len(part)
    categories = {
        feature.name: _rows(collection, vocabulary_of(feature), block.categories[feature.name])
        for feature in plan.of_kind("category")
    }
    sequences = {
        feature.name: _encode_sequence(collection, block, feature.name) for feature in plan.of_kind("sequence")
    }
    marks = {
        "user": part.user.view(np.int64),
        "item": part.item.view(np.int64),
        "time": part.time,
        "file": np.zeros(rows, np.int64),
        "row": np.arange(part.first_row, part.first_row + rows),
    }
    return EncodedSamples(
        matrix_of(categories, rows, np.int32),
        matrix_of({feature.name: block.numbers[feature.name] for feature in plan.of_kind("number")}, rows, np.float32),
        sequences,
        matrix_of({**part.labels, _WEIGHT: part.weight}, rows, np.float32),
        matrix_of(marks, rows, np.int64),
        {feature.name: known_vectors(block.vectors[feature.name]) for feature in plan.of_kind("vector")},
        (part.file,),
    )


def _encode_sequence(collection: EmbeddingCollection, block: FeatureBlock, name: str) -> FlatSequence:
    feature = collection.plan.feature(name)
    ragged = block.sequences[name]
    categories: dict[str, Rows] = {}
    numbers: dict[str, Numbers] = {}
    for item in feature.fields:
        values = ragged.fields[item.name]
        if item.is_category:
            vocabulary = field_vocabulary(feature, item.name)
            categories[f"{name}.{item.name}"] = _rows(collection, vocabulary, values.astype(np.uint64, copy=False))
        else:
            numbers[f"{name}.{item.name}"] = values.astype(np.float32, copy=False)
    numbers[_AGE] = ragged.age
    events = len(ragged.age)
    flat = FlatSequence(
        ragged.offsets[:-1],
        ragged.offsets[1:],
        _padded(categories, events, np.int32),
        _padded(numbers, events, np.float32),
        feature.length,
    )
    return _ended(flat, events)


def _padded(columns: Mapping[str, npt.NDArray[Any]], events: int, dtype: npt.DTypeLike) -> Matrix[Any]:
    """Return columns [events] as a matrix [events + 1, columns], the last row not set."""
    matrix = empty_matrix(tuple(columns), events + 1, dtype)
    for place, values in enumerate(columns.values()):
        matrix.values[:events, place] = values
    return matrix


def _rows(collection: EmbeddingCollection, vocabulary: str, keys: Keys) -> Rows:
    return collection.indexes[vocabulary].find(keys).astype(np.int32)
