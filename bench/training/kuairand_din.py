"""KuaiRand's exposures as one flat table that every trainer can read: what DIN needs, and no more.

Twelve categories of user, context and video, and the user's latest plays as two parallel sequences (video and author).
Values are small integers: 1, 2, … in the order of the keys, one numbering for each vocabulary.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.accuracy import samples_by_date
from bench.common import WORK
from bench.kuairand import sampled
from bowerbird.plan.block import Ragged
from bowerbird.samples.columns import FeatureColumn, LabelColumn, ReadyColumns, SequenceColumn
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.samples.columns_plan import ReadyNames
from bowerbird.samples.manifest import MANIFEST_FILE
from bowerbird.training.batches.dataset import SampleFolder, SampleRows

FIELDS = (
    "user", "video", "author", "tab", "hour", "weekday", "duration_step", "user_active_degree", "video_type",
    "upload_type", "music_type", "tag",
)  # fmt: skip
TARGETS = ("video", "author")
HISTORY = {"history_video": "video", "history_author": "author"}
"""The sequences' columns and whose vocabulary each shares."""
LENGTH = 50
_SEQUENCE_FIELDS = {"history_video": "video", "history_author": "videos.author"}
_DAYS = {
    "train": ("2022-04-25", "2022-05-04"),
    "valid": ("2022-05-05", "2022-05-05"),
    "test": ("2022-05-06", "2022-05-06"),
}
_CANDIDATE = ("video", "author", "duration_step", "video_type", "upload_type", "music_type", "tag")


def din_files() -> Path:
    """Return a folder with train, valid and test as .parquet (lists) and .csv (joined by ^), made on first use."""
    folder = WORK / "kuairand-din"
    if not (folder / "test.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        samples = SampleFolder(samples_by_date(sampled()))
        parts = {part: list(samples.read(*days)) for part, days in _DAYS.items()}
        numbering = _numbering([rows for each in parts.values() for rows in each])
        for part, rows in parts.items():
            frame = pl.concat([_frame(each, numbering) for each in rows])
            frame.write_parquet(folder / f"{part}.parquet")
            joined = [pl.col(name).cast(pl.List(pl.String)).list.join("^") for name in HISTORY]
            frame.with_columns(joined).write_csv(folder / f"{part}.csv")
    return folder


def _numbering(parts: list[SampleRows]) -> dict[str, npt.NDArray[np.uint64]]:
    """Return each vocabulary's keys, ascending."""
    keys = {name: [rows.block.categories[name] for rows in parts] for name in FIELDS}
    for column, vocabulary in HISTORY.items():
        keys[vocabulary] += [_history(rows).fields[_SEQUENCE_FIELDS[column]].astype(np.uint64) for rows in parts]
    return {name: np.unique(np.concatenate(values)) for name, values in keys.items()}


def _history(rows: SampleRows) -> Ragged:
    return rows.block.sequences["played"]


def _frame(rows: SampleRows, numbering: dict[str, npt.NDArray[np.uint64]]) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {"label": pl.Series(rows.labels["click"].astype(np.int64))}
    for name in FIELDS:
        columns[name] = pl.Series(np.searchsorted(numbering[name], rows.block.categories[name]) + 1)
    offsets = _history(rows).offsets
    for column, vocabulary in HISTORY.items():
        keys = _history(rows).fields[_SEQUENCE_FIELDS[column]].astype(np.uint64)
        codes = np.searchsorted(numbering[vocabulary], keys) + 1
        columns[column] = pl.Series([codes[a:b] for a, b in pairwise(offsets)])
    return pl.DataFrame(columns).with_columns(pl.col(name).cast(pl.List(pl.Int64)) for name in HISTORY)


def din_samples() -> Path:
    """Return the same rows as a sample folder: validation is 2000-01-02, test 2000-01-03."""
    folder = din_files()
    samples = folder / "samples" / "default"
    if not (samples / MANIFEST_FILE).is_file():
        features = {
            name: FeatureColumn(kind="category", vocabulary=name, per="candidate" if name in _CANDIDATE else "request")
            for name in FIELDS
        }
        fields = {
            vocabulary: SequenceColumn(kind="category", column=column, vocabulary=vocabulary)
            for column, vocabulary in HISTORY.items()
        }
        features["history"] = FeatureColumn(kind="sequence", fields=fields, length=LENGTH)
        columns = ReadyColumns(
            labels={"label": LabelColumn()},
            features=features,
            parts={"train": ["train.parquet"], "validation": ["valid.parquet"], "test": ["test.parquet"]},
            user="user",
            item="video",
        )
        build_from_columns(samples.parent, samples.name, columns, folder, names=ReadyNames("kuairand"))
    return samples
