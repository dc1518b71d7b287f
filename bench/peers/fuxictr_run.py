"""Trains one of FuxiCTR's models; runs in the peer's own virtual environment (bench/peers/fuxictr.sh makes it).

    fuxictr-venv/bin/python bench/peers/fuxictr_run.py SPECIFICATION.json RESULT.json

FuxiCTR's own preprocessing, model class, loss, regulariser, clipping, optimiser, learning-rate decay, early stopping
and metrics are used unchanged. With ``"loader": "memory"`` its batches come from tensors in memory instead of from its
Parquet loader: the same batches in content and size, so that an accuracy run costs little; ``"shipped"`` leaves the
loader as it is, which is what speed is measured with.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything

_TUPLES = {"din_target_field", "din_sequence_field"}


class MemoryLoader:
    """FuxiCTR's batches (dictionaries of tensors) as slices of tensors in memory, in a new order each time."""

    def __init__(self, file: str, columns: list[str], batch_size: int, shuffle: bool) -> None:
        frame = pd.read_parquet(file, columns=columns)
        self.columns = {name: _tensor(frame[name]) for name in columns}
        self.rows = len(frame)
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = torch.randperm(self.rows) if self.shuffle else torch.arange(self.rows)
        for start in range(0, self.rows, self.batch_size):
            taken = order[start : start + self.batch_size]
            yield {name: values[taken] for name, values in self.columns.items()}


def _tensor(column: pd.Series) -> torch.Tensor:
    values = np.stack(column.to_list()) if column.dtype == object else column.to_numpy()
    return torch.from_numpy(np.array(values))


def _timed(model: Any) -> list[float]:
    """Return a list that receives the seconds of each epoch's training, without its evaluation."""
    seconds: list[float] = []
    train_epoch, eval_step, began = model.train_epoch, model.eval_step, [0.0]

    def timed_epoch(batches: Any) -> None:
        began[0] = time.perf_counter()
        train_epoch(batches)

    def timed_evaluation() -> None:
        seconds.append(time.perf_counter() - began[0])
        eval_step()

    model.train_epoch, model.eval_step = timed_epoch, timed_evaluation
    return seconds


def main() -> None:
    specification = json.loads(Path(sys.argv[1]).read_text())
    params: dict[str, Any] = specification["params"]
    for name in _TUPLES & params.keys():
        params[name] = [tuple(each) for each in params[name]]
    torch.set_num_threads(specification["threads"])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    seed_everything(params["seed"])
    encoder = FeatureProcessor(**params)
    train_file, valid_file, test_file = build_dataset(encoder, **params)
    features = FeatureMap(params["dataset_id"], str(Path(params["data_root"]) / params["dataset_id"]))
    features.load(str(Path(features.data_dir) / "feature_map.json"), params)
    sys.path.insert(0, specification["model_folder"])
    model_class = getattr(importlib.import_module(specification["module"]), specification["model"])
    seed_everything(params["seed"])
    model = model_class(features, **params)
    parameters = sum(value.numel() for value in model.parameters() if value.requires_grad)
    if specification["loader"] == "memory":
        names = [*features.features, *features.labels]
        train, valid, test = (
            MemoryLoader(file, names, params["batch_size"], shuffle)
            for file, shuffle in ((train_file, True), (valid_file, False), (test_file, False))
        )
        rows = train.rows
    else:
        files = {"train_data": train_file, "valid_data": valid_file, "test_data": test_file}
        train, valid, test = RankDataLoader(features, stage="both", **(params | files))
        rows = train.num_samples
    Path(model.model_dir).mkdir(parents=True, exist_ok=True)
    seconds = _timed(model)
    model.fit(train, validation_data=valid, **params)
    result = {
        "valid": model.evaluate(valid),
        "test": model.evaluate(test),
        "parameters": parameters,
        "epochs": len(seconds),
        "epoch_seconds": seconds,
        "rows": rows,
        "learning_rate": model.optimizer.param_groups[0]["lr"],
        "torch": torch.__version__,
    }
    Path(sys.argv[2]).write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
