"""Frappe_x1 as files: the official validation and test rows, and training rows whose negatives were drawn again."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from bench.common import WORK, data_folder

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
