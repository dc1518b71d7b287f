"""From nothing to a published version: prepare, check, ingest, samples, train, recall, publish."""

from __future__ import annotations

import importlib.util
import shutil

from prepare import TERMS, prepare
from rich.panel import Panel
from state import DEEP, HERE, TREES, Demo, lines_with

NETWORK = ("--option", "trainer.batch_size=512", "--option", "trainer.precision=float32")
DIN = ("--model", "din", "--option", "model.dimension=8", "--option", "model.attention=[32]",
       "--option", "model.hidden=[128,64]", "--option", "trainer.patience=1", *NETWORK)  # fmt: skip


def prepare_project(demo: Demo) -> None:
    """Begin anew: a copy of the project with the data's files."""
    terms = TERMS.replace("\n", " ")
    demo.steps.console.print(Panel(terms, title="MovieLens-100k, by GroupLens", border_style="dim", style="dim"))
    shutil.rmtree(demo.project, ignore_errors=True)
    demo.project.mkdir(parents=True)
    for name in ("project.py", "bowerbird.toml"):
        shutil.copy(HERE / name, demo.project / name)
    with demo.steps.step("prepare", "fetch the ratings, check their SHA-256, write clean CSV files") as notes:
        made = prepare(demo.raw, demo.options.wheel)
        notes.append(f"{made.history:,} ratings to learn from, {made.live:,} later ones to be played live")


def learn(demo: Demo) -> None:
    """Make samples of the history."""
    steps = demo.steps
    with steps.step("check", "find mistakes in the declarations") as notes:
        notes.append(steps.command("check"))
    with steps.step("ingest", "read the files into the event log") as notes:
        notes += lines_with(steps.command("ingest"), "rows read", "exposure", "rejected")
    with steps.step("samples", "replay the log: what was known just before each rating") as notes:
        notes += lines_with(steps.command("samples"), "replayed", "mature")
    _train(demo)
    with steps.step("recall", "index which movies are liked together") as notes:
        notes.append(steps.command("recall").splitlines()[-1])
    with steps.step("publish", "version 1, through its gates") as notes:
        notes += steps.command("publish", "--run", demo.runs[DEEP], "--promote").splitlines()


def _train(demo: Demo) -> None:
    steps = demo.steps
    with steps.step("train", "a deep model (DIN) on the history, stopped early by its last days") as notes:
        notes += lines_with(steps.command("train", *DIN, "--epochs", str(demo.options.epochs)), "AUC")
        demo.runs[DEEP] = demo.latest_run()
    if importlib.util.find_spec("lightgbm"):
        with steps.step("train", "LightGBM on the same features, to compare with") as notes:
            notes += lines_with(steps.command("train", "--model", "lightgbm"), "AUC")
            demo.runs[TREES] = demo.latest_run()
