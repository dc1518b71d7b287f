"""Frappe_x1 as files: the official validation and test rows, and training rows whose negatives were drawn again."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from bench.common import WORK, data_folder
from bowerbird.samples.columns import FeatureColumn, LabelColumn, ReadyColumns
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.samples.columns_plan import ReadyNames
from bowerbird.samples.manifest import MANIFEST_FILE

FIELDS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
CAVEAT = "train negatives redrawn"
"""Printed beside every number: the official training file's negatives were not to be had."""


def frappe_files() -> Path:
    """Return a folder with train.csv, valid.csv and test.csv, unpacked on first use under ``bench/work/frappe``."""
    folder, source = WORK / "frappe", data_folder("frappe")
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid", "test"):
        target = folder / f"{part}.csv"
        if not target.is_file():
            with gzip.open(source / f"{part}.csv.gz") as packed, (folder / f"{part}.tmp").open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            (folder / f"{part}.tmp").rename(target)
    return folder


def frappe_samples() -> Path:
    """Return the same rows as a sample folder, made on first use: validation is 2000-01-02, test 2000-01-03."""
    folder = frappe_files()
    samples = folder / "samples" / "default"
    if not (samples / MANIFEST_FILE).is_file():
        columns = ReadyColumns(
            labels={"label": LabelColumn()},
            features={
                name: FeatureColumn(kind="category", per="candidate" if name == "item" else "request")
                for name in FIELDS
            },
            parts={"train": ["train.csv"], "validation": ["valid.csv"], "test": ["test.csv"]},
            user="user",
            item="item",
        )
        build_from_columns(samples.parent, samples.name, columns, folder, names=ReadyNames("frappe"))
    return samples
