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
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

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
from bowerbird.training.run_record import CALIBRATION_FILE, list_runs, read_run
from bowerbird.training.split import DateRange
from bowerbird.training.trained import load_trained

# Chosen on 05-05. Ids that reach an MLP directly are learned by heart within an epoch; attention puts up with them.
_TABLES = {"minimum_count": 20}
_TABM = {
    "options": {"members": 1, "attention_only": ["user", "video", "author", "music_id"]},
    "embedding": _TABLES,
    "trainer": {"epochs": 3, "patience": 9},
}
RECIPES: dict[str, dict[str, Any]] = {
    "dcnv2+trees": {"model": "dcnv2", "trees": True, "embedding": _TABLES},
    "tabm+trees": {"model": "tabm", "trees": True, **_TABM},
    "tabm": {"model": "tabm", **_TABM},
    "din": {"model": "din", "embedding": _TABLES},
    "esmm": {"model": "esmm", "embedding": _TABLES},
    "dcnv2": {"model": "dcnv2", "embedding": _TABLES},
    "deepfm": {"model": "deepfm", "embedding": _TABLES},
    "lr": {"model": "lr", "embedding": _TABLES},
    "lightgbm": {"model": "lightgbm"},
}
DAYS = {"validation": "2022-05-05", "test": "2022-05-06"}
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


def trained(workspace: Workspace, samples: SampleFolder, model: str, seed: int) -> Path:
    """Return a finished run of a recipe: an earlier one on the same samples, or a new one."""
    wanted = [samples.sha256, model, seed, RECIPES[model]]
    for run in list_runs(workspace.runs_folder):
        note = workspace.runs_folder / run.id / "bench.json"
        if run.status == "done" and note.is_file() and json.loads(note.read_text()) == wanted:
            return note.parent
    request = TrainRequest(
        samples=samples.folder, runs_folder=workspace.runs_folder, seed=seed, until="2022-05-04",
        validation=DAYS["validation"], **RECIPES[model],
    )  # fmt: skip
    folder = train_model(request).folder
    (folder / "bench.json").write_text(json.dumps(wanted))
    return folder


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
    parser.add_argument("--look-at-test", action="store_true")
    parser.add_argument("--name", default="accuracy")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    workspace = sampled()
    folder = samples_by_date(workspace)
    samples = SampleFolder(folder)
    days = list(DAYS) if arguments.look_at_test else ["validation"]
    scores: dict[tuple[str, str], list[dict[str, np.ndarray]]] = defaultdict(list)
    held: dict[str, HeldOut] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    for model in arguments.models:
        for seed in arguments.seeds:
            run = trained(workspace, samples, model, seed)
            record = read_run(run)
            seconds[model].append(record.seconds)
            for day in days:
                held[day], found = score(run, samples, DAYS[day])
                scores[model, day].append(found)
            print(model, seed, record.id, f"{record.seconds:.0f} s", flush=True)
    rows = []
    for day in days:
        for task in ("click", "long_view"):
            rows += _rows(day, task, arguments.models, scores, held[day], seconds)
    write(
        arguments.name, rows, seeds=arguments.seeds, features=len(samples.plan.features), plan=samples.plan.fingerprint
    )


def _rows(
    day: str,
    task: str,
    models: list[str],
    scores: dict[tuple[str, str], list[dict[str, np.ndarray]]],
    held: HeldOut,
    seconds: dict[str, list[float]],
) -> list[Row]:
    label, weight, user = held.labels[task], held.weight, held.user
    trees = [found[task] for found in scores.get(("lightgbm", day), [])]
    tree_auc = float(np.mean([measure(label, one, weight, user).auc for one in trees])) if trees else None
    rows = []
    for model in models:
        ours = [found[task] for found in scores[model, day]]
        measured = [measure(label, one, weight, user) for one in ours]
        auc = float(np.mean([one.auc for one in measured]))
        notes = [
            f"seeds {' '.join(f'{one.auc:.4f}' for one in measured)}",
            f"95% {auc_interval(label, ours[0], weight, user)}",
            f"GAUC {np.mean([one.gauc for one in measured]):.4f}",
            f"log loss {np.mean([one.log_loss for one in measured]):.4f}",
            f"PCOC {' '.join(f'{one.pcoc:.3f}' for one in measured)} {pcoc_interval(label, ours[0], weight, user)}",
            f"{np.mean(seconds[model]):.0f} s",
        ]
        if trees and model != "lightgbm":
            pairs = zip(ours, trees, strict=True)
            differences = [str(auc_difference(label, one, tree, weight, user)) for one, tree in pairs]
            notes.append(f"minus LightGBM {'; '.join(differences)}")
        ratio = None if tree_auc is None else auc - tree_auc
        rows.append(Row(f"{day} {task} {model}", auc, "AUC", tree_auc, ratio, note=", ".join(notes)))
    return rows


if __name__ == "__main__":
    main()
