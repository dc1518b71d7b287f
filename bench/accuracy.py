"""Accuracy on KuaiRand: every model against LightGBM on the same plan's features.

    python -m bench.accuracy --models tabm din lightgbm --seeds 0 1 2            # judged on 05-05 alone
    python -m bench.accuracy --models tabm lightgbm --seeds 0 1 2 --look-at-test  # once per model: 05-06, too

Train to 05-04, choose on 05-05, look at 05-06 once. Days and labels are KuaiRand's own columns (the largest outcome
where rows repeat one exposure). Intervals resample users; the paired ones compare two models on the same samples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
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
from bowerbird.bundles.calibrate import calibrations_from_json
from bowerbird.declare.workspace import Workspace
from bowerbird.samples.manifest import MANIFEST_FILE, PLAN_FILE, DayCount, read_manifest
from bowerbird.training.bootstrap import auc_difference, auc_interval, pcoc_interval
from bowerbird.training.dataset import SampleFolder
from bowerbird.training.held_out import HeldOut, score_range
from bowerbird.training.metrics import measure
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.run_record import CALIBRATION_FILE, RunRecord, list_runs, read_run
from bowerbird.training.split import DateRange
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
    # Attention among 238 fields: its cost grows with their square.
    "autoint": {"model": "autoint", "options": {"layers": 2, "attention": 32}, **_COMMON},
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
_NOTE = (
    "Each row is the mean over the seeds that are listed; intervals are of the first of them, and resample users. "
    "Seconds are of the processor, of one thread, on a machine that others used, too. 05-05 is what calibration and "
    "early stopping saw, so that its log loss and PCOC flatter. 05-06 was looked at once for these runs, after all "
    "recipes were set; once before it had been for earlier code and six of the models."
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
    """A finished run, the CPU seconds of its training, and its calibrated scores by day and task."""

    seed: int
    seconds: float
    record: RunRecord
    scores: dict[str, dict[str, np.ndarray]]

    @property
    def summary(self) -> dict[str, object]:
        """What the figures' file says of a run."""
        record = self.record
        return {
            "seed": self.seed, "code": record.code, "precision": record.precision, "steps": record.steps,
            "best_step": record.best_step, "cpu_seconds": round(self.seconds, 1), "seconds": record.seconds,
        }  # fmt: skip


def score(run: Path, samples: SampleFolder, day: str) -> tuple[HeldOut, dict[str, np.ndarray]]:
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
    days = list(DAYS) if arguments.look_at_test else ["validation"]
    judged: dict[str, list[Judged]] = {}
    held: dict[str, HeldOut] = {}
    for model in arguments.models:
        judged[model] = []
        for seed in arguments.seeds:
            if arguments.only_finished and finished(workspace, samples, model, seed) is None:
                continue
            run, seconds = trained(workspace, samples, model, seed)
            record = read_run(run)
            scores = {}
            for day in days:
                held[day], scores[day] = score(run, samples, DAYS[day])
            judged[model].append(Judged(seed, seconds, record, scores))
            print(model, seed, record.id, f"{seconds:.0f} s CPU, {record.seconds:.0f} s", flush=True)
    found = {model: runs for model, runs in judged.items() if runs}
    rows = [row for day in days for task in samples.tasks for row in _rows(day, task.name, found, held[day])]
    runs = {model: [one.summary for one in runs] for model, runs in found.items()}
    write(
        arguments.name, rows, note=_NOTE, features=len(samples.plan.features), plan=samples.plan.fingerprint, runs=runs
    )


def _rows(day: str, task: str, judged: dict[str, list[Judged]], held: HeldOut) -> list[Row]:
    label, weight, user = held.labels[task], held.weight, held.user
    trees = {one.seed: one.scores[day][task] for one in judged.get("lightgbm", [])}
    tree_auc = float(np.mean([measure(label, tree, weight, user).auc for tree in trees.values()])) if trees else None
    rows = []
    for model, runs in judged.items():
        ours = {one.seed: one.scores[day][task] for one in runs}
        first = runs[0].scores[day][task]
        measured = [measure(label, one, weight, user) for one in ours.values()]
        auc = float(np.mean([one.auc for one in measured]))
        notes = [
            f"seeds {' '.join(f'{one.auc:.4f}' for one in measured)}",
            f"95% {auc_interval(label, first, weight, user)}",
            f"GAUC {np.mean([one.gauc for one in measured]):.4f} {gauc_interval(label, first, weight, user)}",
            f"log loss {np.mean([one.log_loss for one in measured]):.4f} "
            f"{log_loss_interval(label, first, weight, user)}",
            f"PCOC {' '.join(f'{one.pcoc:.3f}' for one in measured)} {pcoc_interval(label, first, weight, user)}",
            f"{np.mean([one.seconds for one in runs]):.0f} s CPU",
        ]
        pairs = [(ours[seed], trees[seed]) for seed in ours if seed in trees]
        if pairs and model != "lightgbm":
            differences = [str(auc_difference(label, one, tree, weight, user)) for one, tree in pairs]
            notes.append(f"minus LightGBM {'; '.join(differences)}")
        gain = None if tree_auc is None else auc - tree_auc
        rows.append(Row(f"{day} {task} {model}", auc, "AUC", tree_auc, gain, note=", ".join(notes)))
    return rows


if __name__ == "__main__":
    main()
