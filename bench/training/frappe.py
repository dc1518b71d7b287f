"""Frappe_x1 with BARS's settings: seven models, ours in exact mode and FuxiCTR 2.3.10, on the same files.

    python -m bench.training.frappe                        # what is not yet trained, then the table
    python -m bench.training.frappe --models DCNv2 --seeds 0 --sides ours
    python -m bench.training.frappe --table                # the table of what has been trained

Chosen on the official validation rows, reported on the official test rows. The training file's negatives were drawn
again by the same law (the official ones were not to be had), which is said beside every number. Every run's figures are
kept in ``bench/out/runs/frappe.json``: a run takes up to an hour, and is not repeated while its settings stay the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from bench.common import OUT, WORK, Row, write
from bench.peers.fuxictr_call import PEER, FuxiRun, run_fuxictr
from bench.training.frappe_data import CAVEAT, FIELDS, frappe_files, frappe_samples
from bench.training.frappe_settings import BATCH, LEARNING_RATE, SETTINGS, Setting
from bowerbird.bundles.calibrate import logistic
from bowerbird.samples.columns import SPLIT_DATES
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.quality.held_out import HeldOut, score_range
from bowerbird.training.quality.metrics import auc, log_loss
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.trained import load_trained

RESULTS = OUT / "runs" / "frappe.json"
SIDES = ("ours", "fuxictr")
_COLUMNS: list[dict[str, Any]] = [{"name": list(FIELDS), "active": True, "dtype": "str", "type": "categorical"}]

Result = dict[str, Any]
"""``auc`` and ``log_loss`` on validation and test, ``epochs``, ``seconds``; and what was trained."""


def train_fuxictr(setting: Setting, seed: int, threads: int) -> Result:
    """Train FuxiCTR's model from tensors in memory; nothing of its mathematics is changed."""
    run = FuxiRun(
        model=setting.fuxictr_model,
        data=frappe_files(),
        columns=_COLUMNS,
        params={**setting.fuxictr, "learning_rate": LEARNING_RATE},
        batch_size=BATCH,
        seed=seed,
        threads=threads,
    )
    answer = run_fuxictr(run, niceness=10)
    measured = {part: {"auc": answer[part]["AUC"], "log_loss": answer[part]["logloss"]} for part in ("valid", "test")}
    return {**measured, "epochs": answer["epochs"], "seconds": sum(answer["epoch_seconds"])}


def train_ours(setting: Setting, seed: int, threads: int) -> Result:
    """Train our model in exact mode; scores are the logits' own, before any calibration."""
    torch.set_num_threads(threads)
    samples = SampleFolder(frappe_samples())
    validation, test = SPLIT_DATES["validation"], SPLIT_DATES["test"]
    request = TrainRequest(
        samples=samples.folder,
        runs_folder=WORK / "frappe" / "runs",
        model=setting.model,
        validation=validation,
        test=test,
        seed=seed,
        options=setting.ours,
        embedding=setting.embedding,
        trainer=setting.trainer,
    )
    trained = train_model(request)
    record = trained.record
    model = load_trained(trained.folder, samples.plan, record.settings)
    days = {"valid": validation, "test": test}
    measured = {part: _measured(score_range(samples, DateRange(day, day), model)) for part, day in days.items()}
    return {**measured, "steps": record.steps, "best_step": record.best_step, "seconds": record.seconds}


def _measured(held: HeldOut) -> dict[str, float]:
    label, weight = held.labels["label"].astype(np.float64), held.weight.astype(np.float64)
    score = logistic(held.logits["label"].astype(np.float64))
    return {"auc": auc(label, score, weight), "log_loss": log_loss(label, score, weight)}


TRAIN = {"ours": train_ours, "fuxictr": train_fuxictr}


def _wanted(setting: Setting, side: str, seed: int) -> Result:
    options = setting.ours if side == "ours" else setting.fuxictr
    wanted = {"side": side, "model": setting.name, "seed": seed, "options": options, "table_l2": setting.table_l2}
    return {**wanted, "trainer": setting.trainer, "embedding": setting.embedding} if side == "ours" else wanted


def _kept() -> list[Result]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def _find(results: list[Result], wanted: Result) -> Result | None:
    plain = json.loads(json.dumps(wanted))
    return next((result for result in results if plain.items() <= result.items()), None)


def _train_missing(models: list[str], seeds: list[int], sides: list[str], threads: int) -> None:
    for seed, model, side in ((seed, model, side) for seed in seeds for model in models for side in sides):
        wanted = _wanted(SETTINGS[model], side, seed)
        if _find(_kept(), wanted) is not None:
            continue
        started = time.perf_counter()
        result = {**wanted, **TRAIN[side](SETTINGS[model], seed, threads)}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        temporary = RESULTS.with_suffix(f".{side}.tmp")
        temporary.write_text(json.dumps([*_kept(), result], indent=1))
        temporary.rename(RESULTS)
        shown = f"test AUC {result['test']['auc']:.4f}, log loss {result['test']['log_loss']:.4f}"
        print(f"{side} {model} seed {seed}: {shown}, {time.perf_counter() - started:.0f} s ({CAVEAT})", flush=True)


def _rows(models: list[str], seeds: list[int]) -> Iterator[Row]:
    results = _kept()
    for model in models:
        setting = SETTINGS[model]
        runs = {
            side: [found for seed in seeds if (found := _find(results, _wanted(setting, side, seed))) is not None]
            for side in SIDES
        }
        for metric, published in zip(("auc", "log_loss"), setting.published, strict=True):
            ours, theirs = ([run["test"][metric] for run in runs[side]] for side in SIDES)
            if not ours:
                continue
            notes = [f"{CAVEAT}", f"ours {_spread(ours)}", f"published {published:.4f}"]
            if theirs:
                notes.insert(2, f"{PEER} {_spread(theirs)}")
            peer = statistics.mean(theirs) if theirs else None
            mean = statistics.mean(ours)
            unit = "AUC" if metric == "auc" else "log loss"
            yield Row(f"{model} test {unit}", mean, unit, peer, note="; ".join(notes))


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}] of {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        _train_missing(arguments.models, arguments.seeds, arguments.sides, arguments.threads)
    write("training_frappe", list(_rows(arguments.models, arguments.seeds)), caveat=CAVEAT, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
