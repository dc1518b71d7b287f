"""The KuaiRand workspace that benchmarks share: prepared, ingested and sampled once under ``bench/work``."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from bench.common import WORK, data_folder
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.log.sources.ingest import ingest
from bowerbird.plan.compiler import compile_plan
from bowerbird.samples.build import build_samples
from bowerbird.samples.manifest import read_manifest

EXAMPLE = Path(__file__).parent.parent / "examples" / "kuairand"
TRAIN_UNTIL, VALIDATION, TEST = 20220504, 20220505, 20220506


def workspace(name: str = "kuairand") -> Workspace:
    """Return a workspace with KuaiRand's log ingested; the files are converted on first use."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("project.py", "bowerbird.toml"):
        shutil.copy(EXAMPLE / file, folder / file)
    if not (folder / "raw" / "videos.csv").is_file():
        _prepare(folder / "raw")
    loaded = load_workspace(folder)
    if not (loaded.log_folder / "exposure").is_dir():
        ingest(loaded, progress=False)
    return loaded


def sampled(name: str = "kuairand") -> Workspace:
    """Return the workspace with samples of the present plan."""
    loaded = workspace(name)
    folder = loaded.samples_folder / "default"
    fingerprint = compile_plan(loaded.project).fingerprint
    if not folder.is_dir() or read_manifest(folder).plan != fingerprint:
        build_samples(loaded)
    return loaded


def _prepare(raw: Path) -> None:
    specification = importlib.util.spec_from_file_location("kuairand_prepare", EXAMPLE / "prepare.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.prepare(data_folder("kuairand"), raw)


def days_of(exposure_ids: list[str]) -> npt.NDArray[np.int64]:
    """Return KuaiRand's own ``date`` of exposures, int64 [n] as YYYYMMDD: what its splits go by."""
    log = data_folder("kuairand") / "log_20220425_20220506.parquet"
    found = duckdb.execute(
        "SELECT user_id || '|' || video_id || '|' || time_ms AS id, min(date) FROM read_parquet(?) GROUP BY 1",
        [str(log)],
    ).fetchall()
    dates = dict(found)
    return np.array([dates[identity] for identity in exposure_ids], dtype=np.int64)
