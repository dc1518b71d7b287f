"""Coverage and moments of features over a sample folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bowerbird.errors import NotFoundError
from bowerbird.plan.spec import MISSING_KEY, Feature
from bowerbird.samples.writer import PREFIX

QUANTILES = (0.01, 0.5, 0.99)


class NumberMoments(msgspec.Struct, frozen=True):
    """Of the known values: mean, standard deviation, least, greatest, and the 1 %, 50 % and 99 % quantiles."""

    mean: float
    std: float
    minimum: float
    maximum: float
    quantiles: list[float]


class CategoryMoments(msgspec.Struct, frozen=True):
    """How many distinct keys there are, and the most frequent one (its value where the log tells) with its share."""

    distinct: int
    most_frequent: str
    share: float


class SequenceMoments(msgspec.Struct, frozen=True):
    """Mean and greatest number of entries, empty sequences included."""

    mean_length: float
    longest: int


class FeatureMoments(msgspec.Struct, frozen=True):
    """A feature over ``rows`` samples: the share that has a value (a sequence: an entry), and its moments.

    ``key`` is a category's most frequent key. A vector has a coverage alone.
    """

    rows: int
    coverage: float
    number: NumberMoments | None = None
    category: CategoryMoments | None = None
    sequence: SequenceMoments | None = None
    key: int = MISSING_KEY


class SampleColumns:
    """The columns of a sample folder, or of one of its days; one column is in memory at a time."""

    def __init__(self, folder: Path, day: str | None = None) -> None:
        """Find the files; raises NotFoundError for a day without samples."""
        files = sorted(folder.glob(f"date={day or '*'}/*.parquet"))
        if not files:
            days = sorted(each.name.removeprefix("date=") for each in folder.glob("date=*"))
            raise NotFoundError(
                f"{folder} holds no samples of {day or 'any day'}.",
                f"It has {days[0]} to {days[-1]}." if days else "Make them with `bowerbird samples`.",
            )
        self._files = files
        self._names = set(pq.read_schema(files[0]).names)
        self._data = ds.dataset([str(file) for file in files], format="parquet")

    def moments(self, feature: Feature) -> FeatureMoments | None:
        """Return a feature's moments; None where the samples were made without it."""
        name = PREFIX + feature.name
        if feature.kind == "sequence":
            return _of_sequence(self._column(f"{name}.age")) if f"{name}.age" in self._names else None
        if name not in self._names:
            return None
        column = self._column(name)
        if feature.kind == "vector":
            return FeatureMoments(len(column), _vector_coverage(column))
        return _of_category(column) if feature.kind == "category" else _of_number(column)

    def _column(self, name: str) -> pa.ChunkedArray:
        return self._data.to_table(columns=[name], use_threads=False).column(name)


def _of_number(column: pa.ChunkedArray) -> FeatureMoments:
    values = column.to_numpy().astype(np.float64)
    known = values[~np.isnan(values)]
    coverage = len(known) / max(1, len(values))
    if not len(known):
        return FeatureMoments(len(values), coverage)
    low, middle, high = np.quantile(known, QUANTILES).tolist()
    moments = NumberMoments(
        float(known.mean()), float(known.std()), float(known.min()), float(known.max()), [low, middle, high]
    )
    return FeatureMoments(len(values), coverage, number=moments)


def _of_category(column: pa.ChunkedArray) -> FeatureMoments:
    keys: npt.NDArray[np.uint64] = column.to_numpy()
    found, counts = np.unique(keys[keys != MISSING_KEY], return_counts=True)
    known = int(counts.sum())
    coverage = known / max(1, len(keys))
    if not known:
        return FeatureMoments(len(keys), coverage)
    most = int(counts.argmax())
    key = int(found[most])
    moments = CategoryMoments(len(found), f"key:{key:016x}", float(counts[most]) / known)
    return FeatureMoments(len(keys), coverage, category=moments, key=key)


def _of_sequence(ages: pa.ChunkedArray) -> FeatureMoments:
    lengths = pc.list_value_length(ages).to_numpy()
    if not len(lengths):
        return FeatureMoments(0, 0.0)
    moments = SequenceMoments(float(lengths.mean()), int(lengths.max()))
    return FeatureMoments(len(lengths), float((lengths > 0).mean()), sequence=moments)


def _vector_coverage(column: pa.ChunkedArray) -> float:
    """Return the share of vectors that are known: an unknown one is null or begins with NaN."""
    first: Sequence[float | None] = pc.list_element(column, 0).to_pylist()
    return sum(value is not None and value == value for value in first) / max(1, len(first))
