"""Calls FuxiCTR 2.3.10, which lives in a virtual environment of its own (bench/peers/fuxictr.sh makes it)."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.common import WORK

PEER = "FuxiCTR 2.3.10"
_SCRIPT = Path(__file__).parent / "fuxictr_run.py"
_FOLDERS = {"DeepFM": "DeepFM/DeepFM_torch"}


@dataclass(frozen=True, kw_only=True)
class FuxiRun:
    """One training run. ``data`` is a folder with train.csv, valid.csv and test.csv; ``columns`` FuxiCTR's own
    description of the feature columns; ``params`` the model's and the trainer's parameters by FuxiCTR's names.
    """

    model: str
    data: Path
    columns: list[dict[str, Any]]
    params: dict[str, Any]
    seed: int
    label: str = "label"
    epochs: int = 100
    batch_size: int = 4096
    loader: Literal["memory", "shipped"] = "memory"
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)


def run_fuxictr(run: FuxiRun, niceness: int = 0) -> dict[str, Any]:
    """Train and return valid and test metrics, the epochs' seconds and the parameters' count."""
    python, zoo = WORK / "fuxictr-venv" / "bin" / "python", WORK / "fuxictr-zoo" / "model_zoo"
    if not python.exists() or not zoo.is_dir():
        raise SystemExit("FuxiCTR is not there. Make its environment with: bench/peers/fuxictr.sh")
    scratch = WORK / "fuxictr-runs"
    scratch.mkdir(parents=True, exist_ok=True)
    name = f"{run.data.name}-{run.model}-{run.seed}-{run.loader}-{run.threads}"
    specification, result = scratch / f"{name}.json", scratch / f"{name}-result.json"
    result.unlink(missing_ok=True)
    content = {
        "model": run.model,
        "module": "src",
        "model_folder": str(zoo / _FOLDERS.get(run.model, run.model)),
        "loader": run.loader,
        "threads": run.threads,
        "params": _params(run, name, scratch),
    }
    specification.write_text(json.dumps(content))
    threads = {name: str(run.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")}
    with (scratch / f"{name}.log").open("w") as log:
        finished = subprocess.run(
            ["nice", "-n", str(niceness), str(python), str(_SCRIPT), str(specification), str(result)],
            env=os.environ | threads | run.environment, stdout=log, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if finished.returncode:
        raise SystemExit(f"{PEER} failed; its output is in {scratch / f'{name}.log'}")
    answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def _params(run: FuxiRun, name: str, scratch: Path) -> dict[str, Any]:
    files = {f"{part}_data": str(run.data / f"{part}.csv") for part in ("train", "valid", "test")}
    return {
        **files,
        "dataset_id": f"{run.data.name}-fuxictr",
        "data_root": str(run.data.parent),
        "data_format": "csv",
        "feature_cols": run.columns,
        "label_col": {"name": run.label, "dtype": "float"},
        "min_categr_count": 1,
        "model_id": name,
        "model_root": str(scratch),
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "task": "binary_classification",
        "metrics": ["AUC", "logloss"],
        "monitor": "AUC",
        "monitor_mode": "max",
        "early_stop_patience": 2,
        "learning_rate": 1e-3,
        "batch_size": run.batch_size,
        "epochs": run.epochs,
        "shuffle": True,
        "seed": run.seed,
        "num_workers": 3,
        "verbose": 0,
        "gpu": -1,
        **run.params,
    }
