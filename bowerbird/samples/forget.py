"""Erasing a user from sample datasets: rows dropped, the manifest true again."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.errors import NotFoundError
from bowerbird.samples.build import file_hashes, replace_folder
from bowerbird.samples.manifest import DayCount, LabelSummary, SampleManifest, read_manifest, read_plan
from bowerbird.samples.writer import write_manifest

_LABEL = "label."


def forget_samples(samples_folder: Path, user_key: int) -> int:
    """Drop a user's rows (by 64-bit key) from every dataset, each at once; return how many rows went.

    What an interrupted build or erasure left half done is finished or removed first.
    """
    _clean(samples_folder)
    folders = sorted(folder for folder in samples_folder.glob("[!.]*") if folder.is_dir())
    return sum(_forget_in(folder, user_key) for folder in folders)


def _clean(samples_folder: Path) -> None:
    for old in samples_folder.glob(".*.old"):
        target = samples_folder / old.name.removeprefix(".").removesuffix(".old")
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
    for unfinished in samples_folder.glob(".*.writing"):
        shutil.rmtree(unfinished)


def _forget_in(folder: Path, user_key: int) -> int:
    try:
        manifest, plan = read_manifest(folder), read_plan(folder)
    except NotFoundError:
        return 0
    temporary = folder.with_name(f".{folder.name}.writing")
    gone: Counter[str] = Counter()
    for file in sorted(folder.rglob("*.parquet")):
        target = temporary / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        gone += _copy_without(file, target, user_key)
    if gone["rows"]:
        write_manifest(temporary, plan, _without(manifest, gone, file_hashes(temporary)))
        replace_folder(temporary, folder)
    shutil.rmtree(temporary, ignore_errors=True)
    return gone["rows"]


def _copy_without(file: Path, target: Path, user_key: int) -> Counter[str]:
    """Write a day's rows of the others, or link the file where there are no rows to drop; return what went."""
    users = pq.read_table(file, columns=["user"], partitioning=None).column("user").to_numpy()
    gone = users == np.uint64(user_key)
    if not gone.any():
        os.link(file, target)
        return Counter()
    table = pq.read_table(file, partitioning=None)
    dropped = table.filter(pa.array(gone))
    pq.write_table(table.filter(pa.array(~gone)), target, compression="zstd")
    counts = Counter({"rows": dropped.num_rows, file.parent.name.removeprefix("date="): dropped.num_rows})
    for name in (name for name in table.column_names if name.startswith(_LABEL)):
        values = dropped.column(name)
        counts[f"{name} immature"] += values.null_count
        counts[f"{name} positives"] += int((values.fill_null(0).to_numpy() == 1).sum())
    return counts


def _without(manifest: SampleManifest, gone: Counter[str], files: dict[str, str]) -> SampleManifest:
    days = [DayCount(day.date, day.rows - gone[day.date]) for day in manifest.days]
    return msgspec.structs.replace(
        manifest,
        rows=manifest.rows - gone["rows"],
        exposures=manifest.exposures - gone["rows"],
        labels=[_label_without(label, gone) for label in manifest.labels],
        days=days,
        files=files,
    )


def _label_without(label: LabelSummary, gone: Counter[str]) -> LabelSummary:
    immature = gone[f"{_LABEL}{label.name} immature"]
    return msgspec.structs.replace(
        label,
        mature=label.mature - (gone["rows"] - immature),
        positives=label.positives - gone[f"{_LABEL}{label.name} positives"],
        immature=label.immature - immature,
    )
