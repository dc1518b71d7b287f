"""Accuracy on KuaiRand: every model against LightGBM on the same plan's features.

    python -m bench.accuracy --models tabm din lightgbm --seeds 0 1 2            # judged on 05-05 alone
    python -m bench.accuracy --models tabm lightgbm --seeds 0 1 2 --look-at-test  # once per model: 05-06, too

Train to 05-04, choose on 05-05, look at 05-06 once. Days and labels are KuaiRand's own columns (the largest outcome
where rows repeat one exposure). Intervals resample users; differences are of two models on the same samples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from bench.clustered import gauc_interval, log_loss_interval
from bench.common import Row, write
from bench.kuairand import sampled
from bowerbird.bundles.calibrate import Probabilities, calibrations_from_json
from bowerbird.declare.workspace import Workspace
from bowerbird.samples.manifest import MANIFEST_FILE, PLAN_FILE, DayCount, read_manifest
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.quality.bootstrap import auc_difference, auc_interval, pcoc_interval
from bowerbird.training.quality.held_out import HeldOut, score_range
from bowerbird.training.quality.metrics import measure
from bowerbird.training.quality.report import Report
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.run_record import CALIBRATION_FILE, METRICS_FILE, RunRecord, list_runs, read_run
from bowerbird.training.trained import load_trained

# Chosen on 05-05. Ids that reach an MLP directly are learned by heart within two epochs; attention puts up with them.
_TABLES = {"minimum_count": 20}
_TRAINER = {"epochs": 2, "patience": 9}
_COMMON = {"embedding": _TABLES, "trainer": _TRAINER}
_TABM = {
    "options": {"members": 1, "attention_only": ["user", "video", "author", "music_id"]},
    "embedding": _TABLES,
    "trainer": {"epochs": 3, "patience": 9},
}
RECIPES: dict[str, dict[str, Any]] = {
    "lightgbm": {"model": "lightgbm"},
    "lr": {"model": "lr", "embedding": _TABLES, "trainer": {"epochs": 3, "patience": 9}},
    # 16 factors and a weight for each of the two labels.
    "fm": {"model": "fm", "options": {"dimension": 18}, **_COMMON},
    "widedeep": {"model": "widedeep", "options": {"dimension": 18}, **_COMMON},
    "deepfm": {"model": "deepfm", **_COMMON},
    "dcnv2": {"model": "dcnv2", **_COMMON},
    # Attention among 238 fields, whose cost grows with their square: one small layer and one epoch, for what it costs.
    "autoint": {
        "model": "autoint",
        "options": {"layers": 1, "attention": 16, "heads": 1},
        "embedding": _TABLES,
        "trainer": {"epochs": 1},
    },
    "finalmlp": {
        "model": "finalmlp",
        "options": {"first_context": ["user_active_degree", "tab"], "second_context": ["tag", "duration_step"]},
        **_COMMON,
    },
    "finalnet": {"model": "finalnet", **_COMMON},
    "din": {"model": "din", **_COMMON},
    "bst": {"model": "bst", **_COMMON},
    "tabm": {"model": "tabm", **_TABM},
    "esmm": {"model": "esmm", **_COMMON},
    "mmoe": {"model": "mmoe", **_COMMON},
    "ple": {"model": "ple", **_COMMON},
    "dcnv2+trees": {"model": "dcnv2", "trees": True, **_COMMON},
    "tabm+trees": {"model": "tabm", "trees": True, **_TABM},
}
DAYS = {"validation": "2022-05-05", "test": "2022-05-06"}
REFERENCES = ("lightgbm", "dcnv2")
"""Models that every other is compared with on the same samples, by seed."""
_NOTE = (
    "Each row is the mean over the seeds that are listed; intervals are of the first of them, and resample users. "
    "Seconds are of the processor, of one thread, on a machine that others used, too. 05-05 is what calibration and "
    "early stopping saw, so that its log loss and PCOC flatter."
)
_LOOKED = (
    " 05-06 was looked at for these runs after all recipes were set, as it had been for earlier code; no recipe was"
    " chosen by it."
)
_OUTCOMES = """
SELECT user_id || '|' || video_id || '|' || time_ms AS id, min(date) AS day,
       max(is_click)::TINYINT AS click, max(long_view)::TINYINT AS long_view
FROM read_parquet(?) GROUP BY 1
"""


def samples_by_date(workspace: Workspace) -> Path:
    """Return samples whose days and labels are KuaiRand's own columns, made from the default ones."""
    source, target = workspace.samples_folder / "default", workspace.samples_folder / "by_date"
    manifest = read_manifest(source)
    if (target / MANIFEST_FILE).is_file() and read_manifest(target).plan == manifest.plan:
        return target
    shutil.rmtree(target, ignore_errors=True)
    files = sorted(source.glob("date=*/*.parquet"))
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    connection = duckdb.connect()
    log = str(workspace.raw_folder / "log.parquet")
    outcomes = connection.sql(_OUTCOMES, params=[log]).to_arrow_table()
    place = pc.index_in(table.column("exposure_id"), outcomes.column("id").combine_chunks())
    joined = outcomes.take(place)
    for label in ("click", "long_view"):
        column = table.schema.get_field_index(f"label.{label}")
        table = table.set_column(column, f"label.{label}", joined.column(label).cast(pa.int8()))
    days = joined.column("day").to_numpy()
    counts = []
    for day in np.unique(days):
        date = f"{day // 10000}-{day // 100 % 100:02}-{day % 100:02}"
        rows = table.filter(pa.array(days == day))
        (target / f"date={date}").mkdir(parents=True)
        pq.write_table(rows, target / f"date={date}" / "part-0.parquet")
        counts.append(DayCount(date, rows.num_rows))
    shutil.copy(source / PLAN_FILE, target / PLAN_FILE)
    named = msgspec.structs.replace(manifest, name="by_date", days=counts)
    (target / MANIFEST_FILE).write_bytes(msgspec.json.encode(named))
    return target


def trained(workspace: Workspace, samples: SampleFolder, model: str, seed: int) -> tuple[Path, float]:
    """Return a finished run of a recipe, an earlier one on the same samples or a new one, and its CPU seconds."""
    found = finished(workspace, samples, model, seed)
    if found is not None:
        return found
    request = TrainRequest(
        samples=samples.folder, runs_folder=workspace.runs_folder, seed=seed, until="2022-05-04",
        validation=DAYS["validation"], **RECIPES[model],
    )  # fmt: skip
    started = time.process_time()
    folder = train_model(request).folder
    seconds = time.process_time() - started
    note = {"recipe": _wanted(samples, model, seed), "cpu_seconds": seconds}
    (folder / "bench.json").write_text(json.dumps(note))
    return folder, seconds


def finished(workspace: Workspace, samples: SampleFolder, model: str, seed: int) -> tuple[Path, float] | None:
    """Return the finished run of a recipe on these samples and its CPU seconds, if there is one."""
    for run in list_runs(workspace.runs_folder):
        file = workspace.runs_folder / run.id / "bench.json"
        note = json.loads(file.read_text()) if run.status == "done" and file.is_file() else None
        if isinstance(note, dict) and note["recipe"] == _wanted(samples, model, seed):
            return file.parent, note["cpu_seconds"]
    return None


def _wanted(samples: SampleFolder, model: str, seed: int) -> list[Any]:
    return [samples.sha256, model, seed, RECIPES[model]]


@dataclass(frozen=True)
class Judged:
    """A finished run, the CPU seconds of its training, and its metrics of the validation day by task."""

    seed: int
    folder: Path
    seconds: float
    record: RunRecord
    validation: dict[str, Report]

    @property
    def summary(self) -> dict[str, object]:
        """What the figures' file says of a run."""
        record = self.record
        return {
            "seed": self.seed, "code": record.code, "precision": record.precision, "steps": record.steps,
            "best_step": record.best_step, "cpu_seconds": round(self.seconds, 1), "seconds": record.seconds,
        }  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """A day's labels, weights and users, and by model and seed the calibrated scores by task."""

    held: HeldOut
    scores: dict[str, dict[int, dict[str, Probabilities]]]


def score(run: Path, samples: SampleFolder, day: str) -> tuple[HeldOut, dict[str, Probabilities]]:
    """Return a finished run's calibrated scores of one day."""
    model = load_trained(run, samples.plan, read_run(run).settings)
    held = score_range(samples, DateRange(day, day), model)
    calibrations = calibrations_from_json((run / CALIBRATION_FILE).read_bytes())
    return held, held.scores(calibrations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only-finished", action="store_true", help="train nothing; leave out what is not there")
    parser.add_argument("--look-at-test", action="store_true")
    parser.add_argument("--name", default="accuracy")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    workspace = sampled()
    samples = SampleFolder(samples_by_date(workspace))
    judged: dict[str, list[Judged]] = {}
    for model in arguments.models:
        for seed in arguments.seeds:
            if arguments.only_finished and finished(workspace, samples, model, seed) is None:
                continue
            run, seconds = trained(workspace, samples, model, seed)
            record = read_run(run)
            metrics = json.loads((run / METRICS_FILE).read_text())["validation"]
            judged.setdefault(model, []).append(Judged(seed, run, seconds, record, metrics))
            shown = " ".join(f"{task} {values['auc']:.4f}" for task, values in metrics.items())
            print(model, seed, record.id, f"{seconds:.0f} s CPU, {record.seconds:.0f} s", shown, flush=True)
    rows = [row for task in samples.tasks for row in _validation_rows(task.name, judged)]
    if arguments.look_at_test:
        scored = _score_all(samples, judged)
        rows += [row for task in samples.tasks for row in _test_rows(task.name, judged, scored)]
    runs = {model: [one.summary for one in found] for model, found in judged.items()}
    plan = samples.plan
    note = _NOTE + _LOOKED * arguments.look_at_test
    more = {"features": len(plan.features), "plan": plan.fingerprint, "runs": runs}
    write(arguments.name, rows, note=note, **more)


def _score_all(samples: SampleFolder, judged: dict[str, list[Judged]]) -> Scored:
    scores: dict[str, dict[int, dict[str, Probabilities]]] = {}
    for model, runs in judged.items():
        scores[model] = {}
        for one in runs:
            held, scores[model][one.seed] = score(one.folder, samples, DAYS["test"])
    return Scored(held, scores)


def _validation_rows(task: str, judged: dict[str, list[Judged]]) -> list[Row]:
    """Return the models' rows of the day that they were chosen on: each run's own metrics."""
    auc = {model: _mean(one.validation[task]["auc"] for one in runs) for model, runs in judged.items()}
    trees = auc.get("lightgbm")
    rows = []
    for model, runs in judged.items():
        metrics = [one.validation[task] for one in runs]
        notes = [
            "seeds " + " ".join(f"{one['auc']:.4f}" for one in metrics),
            f"95% [{metrics[0]['auc_low']:.4f}, {metrics[0]['auc_high']:.4f}]",
            f"GAUC {_mean(one['gauc'] for one in metrics):.4f}",
            f"log loss {_mean(one['log_loss'] for one in metrics):.4f}",
            f"{_mean(one.seconds for one in runs):.0f} s CPU",
        ]
        gain = None if trees is None else auc[model] - trees
        rows.append(Row(f"validation {task} {model}", auc[model], "AUC", trees, gain, note=", ".join(notes)))
    return rows


def _test_rows(task: str, judged: dict[str, list[Judged]], scored: Scored) -> list[Row]:
    """Return the models' rows of the day that is looked at once."""
    held = scored.held
    label, weight, user = held.labels[task], held.weight, held.user
    found = {model: {seed: one[task] for seed, one in seeds.items()} for model, seeds in scored.scores.items()}
    auc = {model: [measure(label, one, weight, user) for one in seeds.values()] for model, seeds in found.items()}
    trees = _mean(one.auc for one in auc["lightgbm"]) if "lightgbm" in auc else None
    rows = []
    for model, seeds in found.items():
        measured, first = auc[model], next(iter(seeds.values()))
        notes = [
            f"seeds {' '.join(f'{one.auc:.4f}' for one in measured)}",
            f"95% {auc_interval(label, first, weight, user)}",
            f"GAUC {_mean(one.gauc for one in measured):.4f} {gauc_interval(label, first, weight, user)}",
            f"log loss {_mean(one.log_loss for one in measured):.4f} {log_loss_interval(label, first, weight, user)}",
            f"PCOC {' '.join(f'{one.pcoc:.3f}' for one in measured)} {pcoc_interval(label, first, weight, user)}",
            f"{_mean(one.seconds for one in judged[model]):.0f} s CPU",
        ]
        for reference in REFERENCES:
            pairs = [(one, found[reference][seed]) for seed, one in seeds.items() if seed in found.get(reference, {})]
            if pairs and model != reference:
                differences = [str(auc_difference(label, one, other, weight, user)) for one, other in pairs]
                notes.append(f"minus {reference} {'; '.join(differences)}")
        mean = _mean(one.auc for one in measured)
        gain = None if trees is None else mean - trees
        rows.append(Row(f"test {task} {model}", mean, "AUC", trees, gain, note=", ".join(notes)))
    return rows


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
