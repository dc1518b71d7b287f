"""A batch that broke training: which values are to blame, and the batch itself in a file to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.durable import new_file
from bowerbird.embedding.rows import PaddedSequence
from bowerbird.training.batches.encoded import Batch

AnyColumn = npt.NDArray[Any]


def faulty_values(batch: Batch) -> list[str]:
    """Return one sentence for each feature or label with a value that training cannot take, worst file and row named.

    Numbers may be NaN, which marks them as unknown, and labels too, while they are immature; neither may be infinite.
    Vectors and ages of events may be neither.
    """
    found = []
    for name, values, may_be_unknown in _numbers(batch):
        wrong = np.isinf(values) if may_be_unknown else ~np.isfinite(values)
        if wrong.any():
            rows = np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))
            value = values[wrong][0]
            found.append(f"{name} is {value} in {_place(batch, int(rows[0]))} ({len(rows)} such samples in the batch)")
    return found


def save_faulty_batch(folder: Path, batch: Batch, step: int) -> Path:
    """Write a batch as ``faulty_batch-<step>.parquet`` in a run's folder; return the file. Raises StorageError.

    One row per sample: where it was read, keys, time, weight, ``label.<task>``, and its features as training saw them:
    ``f.<feature>`` with categories as rows of their tables, sequences as lists without padding, newest event first.
    """
    file = folder / f"faulty_batch-{step}.parquet"
    with new_file(file) as stream:
        pq.write_table(pa.table(dict(_columns(batch))), stream, compression="zstd")
    return file


def _numbers(batch: Batch) -> Iterator[tuple[str, AnyColumn, bool]]:
    """Yield what is to be looked at: its name in words, values [rows, ...] and whether NaN is allowed."""
    for name, values in batch.rows.numbers.items():
        yield f"feature {name!r}", values, True
    for name, sequence in batch.rows.sequences.items():
        for item, values in sequence.numbers.items():
            yield f"feature {item!r}", values, True
        yield f"the age of events in feature {name!r}", sequence.age, False
    for name, values in batch.rows.vectors.items():
        yield f"feature {name!r}", values, False
    for task, label in batch.labels.items():
        yield f"label {task!r}", label, True
    yield "the weight", batch.weight, False


def _place(batch: Batch, row: int) -> str:
    origin = batch.marks.origin
    return f"row {row} of the batch" if origin is None else origin.describe(row)


def _columns(batch: Batch) -> Iterator[tuple[str, Any]]:
    marks = batch.marks
    if marks.origin is not None:
        yield "file", pa.DictionaryArray.from_arrays(pa.array(marks.origin.file), pa.array(marks.origin.files))
        yield "row", _array(marks.origin.row)
    yield "user", _array(marks.user)
    yield "item", _array(marks.item)
    yield "time", pa.array(np.ascontiguousarray(marks.time), pa.timestamp("us", "UTC"))
    yield "weight", _array(batch.weight)
    for task, label in batch.labels.items():
        yield f"label.{task}", _array(label)
    for name, values in (*batch.rows.categories.items(), *batch.rows.numbers.items()):
        yield f"f.{name}", _array(values)
    for name, sequence in batch.rows.sequences.items():
        yield from _sequence_columns(name, sequence)
    for name, vectors in batch.rows.vectors.items():
        yield f"f.{name}", pa.FixedSizeListArray.from_arrays(_array(vectors.reshape(-1)), vectors.shape[1])


def _sequence_columns(name: str, sequence: PaddedSequence) -> Iterator[tuple[str, Any]]:
    offsets = np.concatenate([[0], np.cumsum(sequence.mask.sum(axis=1))]).astype(np.int32)
    for item, values in (*sequence.categories.items(), *sequence.numbers.items(), (f"{name}.age", sequence.age)):
        yield f"f.{item}", pa.ListArray.from_arrays(pa.array(offsets), _array(values[sequence.mask]))


def _array(values: AnyColumn) -> Any:
    return pa.array(np.ascontiguousarray(values))
