"""The two speed cases, each for ours, for FuxiCTR as shipped and for a plain PyTorch loop, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from bench.common import WORK
from bench.peers.fuxictr_call import FuxiRun, run_fuxictr
from bench.peers.plain_loop import PlainConfig, PlainData, PlainDCNv2, PlainDIN, PlainModel, train_plain
from bench.training import frappe_data, kuairand_din
from bench.training.frappe_settings import BATCH, LEARNING_RATE, SETTINGS
from bench.training.gemm import Shape
from bowerbird.bundles.calibrate import logistic
from bowerbird.samples.columns import SPLIT_DATES
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.curve import Evaluation
from bowerbird.training.progress import Silent
from bowerbird.training.quality.held_out import score_range
from bowerbird.training.quality.metrics import auc
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.trained import load_trained

_DCNV2 = SETTINGS["DCNv2"]
_DIN_DIMENSION, _DIN_ATTENTION, _DIN_HIDDEN, _DIN_DROPOUT = 16, (64, 32), (256, 128), 0.1
_PARTS = ("train", "valid", "test")
PlainParts = dict[str, PlainData]
FIXED: dict[str, Any] = {
    "optimiser": "adam", "schedule": "constant", "warmup_steps": 0, "clip_norm": 10.0, "average": 0.0,
    "base_rate_start": False, "linear_start": "xavier_normal", "learning_rate": LEARNING_RATE, "batch_size": BATCH,
    "patience": 1000, "checkpoint_steps": 1_000_000,
}  # fmt: skip
"""Our trainer's options: what the other two do, too."""


@dataclass(frozen=True)
class Measured:
    """Training samples a second, epoch by epoch, evaluations left out; and test AUC after the best on validation."""

    rates: list[float]
    auc: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison. ``layers`` are the matrix products of a step of 4096 rows in their textbook form."""

    name: str
    samples: Callable[[], Path]
    files: Callable[[], Path]
    model: str
    options: dict[str, Any]
    embedding: dict[str, Any]
    trainer: dict[str, Any]
    fuxictr_model: str
    fuxictr_columns: list[dict[str, Any]]
    fuxictr: dict[str, Any]
    plain: Callable[[PlainConfig], tuple[PlainModel, PlainParts]]
    plain_options: dict[str, dict[str, Any]]
    layers: list[Shape] = field(default_factory=list)


class _Rates(Silent):
    """Keeps each epoch's samples a second."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def evaluated(self, evaluation: Evaluation) -> None:
        self.rates.append(evaluation.rate)


def train_ours(case: Case, epochs: int, seed: int, threads: int) -> Measured:
    """Train with our trainer as a user would, from a sample folder."""
    torch.set_num_threads(threads)
    samples = SampleFolder(case.samples())
    rates = _Rates()
    result = train_model(
        TrainRequest(
            samples=samples.folder, runs_folder=WORK / "training-runs", model=case.model, seed=seed,
            validation=SPLIT_DATES["validation"], test=SPLIT_DATES["test"], options=case.options,
            embedding=case.embedding, trainer={**FIXED, **case.trainer, "epochs": epochs},
        ),
        rates,
    )  # fmt: skip
    model = load_trained(result.folder, samples.plan, result.record.settings)
    held = score_range(samples, DateRange(SPLIT_DATES["test"], SPLIT_DATES["test"]), model)
    return Measured(rates.rates, _auc(held.labels["label"], logistic(held.logits["label"].astype(np.float64))))


def train_peer(case: Case, epochs: int, seed: int, threads: int) -> Measured:
    """Train with FuxiCTR as shipped, its own loader included."""
    run = FuxiRun(
        model=case.fuxictr_model, data=case.files(), columns=case.fuxictr_columns, params=case.fuxictr, seed=seed,
        epochs=epochs, batch_size=BATCH, loader="shipped", threads=threads,
    )  # fmt: skip
    answer = run_fuxictr(run)
    return Measured([answer["rows"] / seconds for seconds in answer["epoch_seconds"]], answer["test"]["AUC"])


def train_loop(case: Case, variant: str, epochs: int, seed: int, threads: int) -> Measured:
    """Train with the plain loop; ``variant`` names one of the case's ``plain_options``."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    config = PlainConfig(epochs=epochs, batch_size=BATCH, seed=seed, **case.plain_options[variant])
    model, parts = case.plain(config)
    result = train_plain(model, parts["train"], parts["valid"], parts["test"], config, _auc)
    rows = len(parts["train"].label)
    rates = [rows / seconds for seconds in result.epoch_seconds]
    return Measured(rates, _auc(parts["test"].label.numpy(), result.scores))


def _auc(label: npt.NDArray[np.float32], score: npt.NDArray[Any]) -> float:
    return auc(label.astype(np.float64), score.astype(np.float64), np.ones(len(label)))


def _plain_frappe(config: PlainConfig) -> tuple[PlainModel, PlainParts]:
    frames = {part: pl.read_csv(frappe_data.frappe_files() / f"{part}.csv") for part in _PARTS}
    parts = {part: _plain_data(frame, frappe_data.FIELDS) for part, frame in frames.items()}
    rows = 1 + max(int(data.rows.max()) for data in parts.values())
    model = PlainDCNv2(rows, len(frappe_data.FIELDS), 10, config, crosses=4, hidden=(400, 400, 400), dropout=0.4)
    return model, parts


def _plain_data(frame: pl.DataFrame, names: tuple[str, ...]) -> PlainData:
    rows = torch.from_numpy(np.ascontiguousarray(frame.select(names).to_numpy().astype(np.int64)))
    return PlainData(rows, torch.from_numpy(frame["label"].to_numpy().astype(np.float32)))


def _plain_kuairand(config: PlainConfig) -> tuple[PlainModel, PlainParts]:
    frames = {part: pl.read_parquet(kuairand_din.din_files() / f"{part}.parquet") for part in _PARTS}
    sizes = [1 + max(_largest(frame, name) for frame in frames.values()) for name in kuairand_din.FIELDS]
    starts = dict(zip(kuairand_din.FIELDS, np.cumsum([1, *sizes[:-1]]).tolist(), strict=True))
    parts = {part: _with_history(frame, starts) for part, frame in frames.items()}
    targets = tuple(kuairand_din.FIELDS.index(name) for name in kuairand_din.TARGETS)
    model = PlainDIN(
        1 + sum(sizes), len(kuairand_din.FIELDS), _DIN_DIMENSION, config, targets=targets, attention=_DIN_ATTENTION,
        hidden=_DIN_HIDDEN, dropout=_DIN_DROPOUT,
    )  # fmt: skip
    return model, parts


def _largest(frame: pl.DataFrame, name: str) -> int:
    columns = [name, *(column for column, vocabulary in kuairand_din.HISTORY.items() if vocabulary == name)]
    return max(int(frame[column].explode().to_numpy().max(initial=0)) for column in columns)


def _with_history(frame: pl.DataFrame, starts: dict[str, int]) -> PlainData:
    offsets = torch.tensor([starts[name] for name in kuairand_din.FIELDS])
    plain = _plain_data(frame, kuairand_din.FIELDS)
    sequences = []
    for column, vocabulary in kuairand_din.HISTORY.items():
        padded = np.zeros((len(frame), kuairand_din.LENGTH), np.int64)
        for row, events in enumerate(frame[column].to_list()):
            latest = (events or [])[-kuairand_din.LENGTH :]
            padded[row, : len(latest)] = np.array(latest, np.int64) + starts[vocabulary]
        sequences.append(torch.from_numpy(padded))
    return PlainData(plain.rows + offsets, plain.label, torch.stack(sequences, dim=2))


_HISTORY_COLUMNS = [
    {
        "name": column, "active": True, "dtype": "str", "type": "sequence", "splitter": "^",
        "max_len": kuairand_din.LENGTH, "share_embedding": vocabulary, "feature_encoder": None,
    }
    for column, vocabulary in kuairand_din.HISTORY.items()
]  # fmt: skip
_WIDTH = len(kuairand_din.TARGETS) * _DIN_DIMENSION
_EVENTS = BATCH * kuairand_din.LENGTH
CASES = {
    case.name: case
    for case in (
        Case(
            name="frappe",
            samples=frappe_data.frappe_samples,
            files=frappe_data.frappe_files,
            model=_DCNV2.model,
            options=_DCNV2.ours,
            embedding=_DCNV2.embedding,
            trainer={"table_l2": _DCNV2.table_l2},
            fuxictr_model="DCNv2",
            fuxictr_columns=[{"name": list(frappe_data.FIELDS), "active": True, "dtype": "str", "type": "categorical"}],
            fuxictr=_DCNV2.fuxictr,
            plain=_plain_frappe,
            plain_options={"sparse": {"sparse": True}, "dense": {"sparse": False, "table_l2": _DCNV2.table_l2}},
            layers=[(BATCH, 100, 100)] * 4 + [(BATCH, 100, 400)] + [(BATCH, 400, 400)] * 2 + [(BATCH, 500, 1)],
        ),
        Case(
            name="kuairand",
            samples=kuairand_din.din_samples,
            files=kuairand_din.din_files,
            model="din",
            options={
                "dimension": _DIN_DIMENSION, "attention": list(_DIN_ATTENTION), "hidden": list(_DIN_HIDDEN),
                "dropout": _DIN_DROPOUT, "pooling": "sum",
            },
            embedding={"minimum_count": 1, "initial_scale": 1e-4},
            trainer={},
            fuxictr_model="DIN",
            fuxictr_columns=[
                {"name": list(kuairand_din.FIELDS), "active": True, "dtype": "str", "type": "categorical"},
                *_HISTORY_COLUMNS,
            ],
            fuxictr={
                "embedding_dim": _DIN_DIMENSION, "dnn_hidden_units": list(_DIN_HIDDEN), "dnn_activations": "relu",
                "attention_hidden_units": list(_DIN_ATTENTION), "attention_hidden_activations": "relu",
                "din_target_field": [list(kuairand_din.TARGETS)], "din_sequence_field": [list(kuairand_din.HISTORY)],
                "net_dropout": _DIN_DROPOUT,
            },
            plain=_plain_kuairand,
            plain_options={"sparse": {"sparse": True}, "dense": {"sparse": False}},
            layers=[
                (_EVENTS, 4 * _WIDTH, 64), (_EVENTS, 64, 32), (_EVENTS, 32, 1),
                (BATCH, len(kuairand_din.FIELDS) * _DIN_DIMENSION + _WIDTH, 256), (BATCH, 256, 128), (BATCH, 128, 1),
            ],
        ),
    )
}  # fmt: skip
