"""The whole loop on real data: ``make demo``, or ``python demo.py`` where Bowerbird is installed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import threading
import time
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import charts
from judge import Judgement, judge
from live_server import LiveServer
from page import Findings, write_page
from people import Library, Person, choose_people, meet, time_recommendations
from player import Played, Player, Rating, read_ratings
from prepare import TERMS, prepare
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from steps import CommandError, Steps

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.errors import BowerbirdError
from bowerbird.serving.clock import FileTime
from bowerbird.training.run_record import latest_run

HERE = Path(__file__).parent
LIVE_SINCE = "1998-04-05"
"""The first day of the ratings that are played."""
RETRAIN_SINCE = "1998-03-27"
"""The first day that version 2 learns from."""
RETRAIN_AT = 0.6
"""The share of the live ratings after which version 2 is trained."""
SERVED = "as served"
DEEP = "deep model, not updated"
TREES = "LightGBM, not updated"
AVERAGE = "the movie's average"
MODEL = ("--model", "din", "--option", "model.dimension=8", "--option", "model.attention=[32]",
         "--option", "model.hidden=[128,64]", "--option", "trainer.batch_size=512",
         "--option", "trainer.precision=float32", "--option", "trainer.patience=1")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    wheel: Path | None
    epochs: int
    live: int | None
    open_page: bool


@dataclass
class Demo:
    """What the steps share and find."""

    options: Options
    steps: Steps
    workspace: Workspace | None = None
    runs: dict[str, str] = field(default_factory=dict)
    played: Played = field(default_factory=Played)
    swapped: int = 0
    refused: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)
    recommend_seconds: list[float] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The project's folder: a copy, so that the demo can begin anew."""
        return self.steps.project


def main() -> None:
    """Run the demo; an error is shown with its remedy, Ctrl-C stops the server in order."""
    console = Console(highlight=False)
    options = _options()
    demo = Demo(options, Steps(options.out / "movielens", console))
    started = time.perf_counter()
    try:
        page = run(demo)
    except KeyboardInterrupt:
        console.print("\nStopped; the server is down. `make demo` begins anew.")
        sys.exit(130)
    except BowerbirdError as error:
        console.print(f"[red bold]Error:[/] {error.what}", markup=True, soft_wrap=True)
        console.print(f"       {error.remedy}", soft_wrap=True)
        sys.exit(1)
    console.print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Look at [bold]{page.resolve()}[/]", soft_wrap=True)
    if options.open_page:
        webbrowser.open(page.resolve().as_uri())


def _options() -> Options:
    parser = argparse.ArgumentParser(description="The whole loop on MovieLens-100k.")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER", help="where everything goes (default: demo)")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="the wheel with the data, where it is here already")
    parser.add_argument("--epochs", type=int, default=2, help="most passes over the training samples")
    parser.add_argument("--live", type=int, metavar="N", help="play only the first N live ratings")
    parser.add_argument("--open", action="store_true", dest="open_page", help="open the page in a browser at the end")
    given = parser.parse_args()
    return Options(given.out, given.wheel, given.epochs, given.live, given.open_page)


def run(demo: Demo) -> Path:
    """Run every step; return the page."""
    _prepare(demo)
    _learn(demo)
    live, history = _ratings(demo)
    with _served(demo) as server, Client(server.address, _make_key(demo)) as client:
        _play(demo, client, live)
        _look_at_people(demo, client, history + live)
    _report(demo)
    judgement = _judge(demo)
    _print_results(demo, judgement)
    findings = Findings(
        demo.steps.seconds, len(history), judgement, demo.played, demo.swapped, demo.refused, demo.report,
        demo.people, demo.recommend_seconds, SERVED, DEEP, AVERAGE, _charts(demo, judgement), demo.project,
    )  # fmt: skip
    return write_page(demo.options.out / "index.html", findings)


def _prepare(demo: Demo) -> None:
    demo.steps.console.print(Panel(TERMS, title="MovieLens-100k, by GroupLens", border_style="dim", style="dim"))
    shutil.rmtree(demo.project, ignore_errors=True)
    demo.project.mkdir(parents=True)
    for name in ("project.py", "bowerbird.toml"):
        shutil.copy(HERE / name, demo.project / name)
    with demo.steps.step("prepare", "fetch the ratings, check their SHA-256, write clean CSV files") as notes:
        made = prepare(demo.project / "raw", demo.options.wheel)
        notes.append(f"{made.history:,} ratings to learn from, {made.live:,} later ones to be played live")
    demo.workspace = load_workspace(demo.project)


def _learn(demo: Demo) -> None:
    steps = demo.steps
    with steps.step("check", "find mistakes in the declarations") as notes:
        notes.append(steps.command("check"))
    with steps.step("ingest", "read the files into the event log") as notes:
        notes.append(steps.command("ingest").splitlines()[-1])
    with steps.step("samples", "replay the log: what was known just before each rating") as notes:
        notes += _lines(steps.command("samples"), "replayed", "mature")
    with steps.step("train", "a deep model (DIN) on the history, stopped early by its last days") as notes:
        notes += _lines(steps.command("train", *MODEL, "--epochs", str(demo.options.epochs)), "AUC")
        demo.runs[DEEP] = _latest(demo)
    if importlib.util.find_spec("lightgbm"):
        with steps.step("train", "LightGBM on the same features, to compare with") as notes:
            notes += _lines(steps.command("train", "--model", "lightgbm"), "AUC")
            demo.runs[TREES] = _latest(demo)
    with steps.step("recall", "which movies are liked together") as notes:
        notes.append(steps.command("recall").splitlines()[-1])
    with steps.step("publish", "version 1, through its gates") as notes:
        notes += steps.command("publish", "--run", demo.runs[DEEP], "--promote").splitlines()


def _ratings(demo: Demo) -> tuple[list[Rating], list[Rating]]:
    raw = demo.project / "raw"
    return read_ratings(raw / "live" / "ratings.csv")[: demo.options.live], read_ratings(raw / "ratings.csv")


def _make_key(demo: Demo) -> str:
    return demo.steps.command("keys", "create", "demo", "--scope", "admin").splitlines()[0]


def _served(demo: Demo) -> LiveServer:
    first = read_ratings(demo.project / "raw" / "live" / "ratings.csv")[0]
    FileTime(_clock_file(demo)).set(first.time * 1_000_000)
    return LiveServer(demo.project, demo.options.out / "server.log")


def _clock_file(demo: Demo) -> Path:
    assert demo.workspace is not None and demo.workspace.clock_file is not None
    return demo.workspace.clock_file


def _play(demo: Demo, client: Client, live: list[Rating]) -> None:
    """Play the first part, retrain on it, and swap the versions while the second part is playing."""
    cut = round(RETRAIN_AT * len(live))
    library = Library(demo.project / "raw")
    player = Player(client, FileTime(_clock_file(demo)), sorted(library.movies))
    demo.played = player.played
    _play_part(demo, player, live[:cut], "play", "ask before each rating, then tell: version 1")
    version = _retrain(demo)
    swap = _Swap(demo, client, version)
    swap.start()
    _play_part(demo, player, live[cut:], "play", "play on, and swap the versions meanwhile: no request fails")
    swap.join()
    demo.swapped = next((one.rating.time for one in demo.played.predictions if one.version > 1), 0)


def _play_part(demo: Demo, player: Player, ratings: list[Rating], name: str, what: str) -> None:
    columns = (TextColumn(f"[bold]{name}[/]  {what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.perf_counter()
    with Progress(*columns, console=demo.steps.console, transient=True) as bar:
        task = bar.add_task(name, total=len(ratings))
        player.play(ratings, lambda count: bar.advance(task, count))
    seconds = time.perf_counter() - started
    demo.steps.done(name, what, seconds, [f"{len(ratings):,} ratings, {len(ratings) / seconds:,.0f} a second"])


def _retrain(demo: Demo) -> int:
    """Train on the ratings just played and publish; return the new version, or 0 when a gate refused it."""
    steps = demo.steps
    with steps.step("samples", "replay the log again, live ratings included"):
        steps.command("samples", "--name", "updated")
    with steps.step("train", f"go on from version 1 with what came since {RETRAIN_SINCE}") as notes:
        arguments = ("--samples", "updated", "--from-run", demo.runs[DEEP], "--since", RETRAIN_SINCE)
        options = ("--epochs", "1", "--option", "trainer.batch_size=512", "--option", "trainer.precision=float32",
                   "--option", "trainer.learning_rate=0.0005", "--option", "trainer.warmup_steps=0",
                   "--option", "trainer.average=0.98")  # fmt: skip
        notes += _lines(steps.command("train", *arguments, *options), "AUC")
    with steps.step("publish", "version 2, through its gates: not worse than the live version") as notes:
        try:
            notes += steps.command("publish", "--run", _latest(demo)).splitlines()
        except CommandError as error:
            demo.refused = error.what
            notes.append("A gate refused it; version 1 stays live.")
            return 0
    return 2


class _Swap(threading.Thread):
    """Makes a version live while requests are answered."""

    def __init__(self, demo: Demo, client: Client, version: int) -> None:
        super().__init__(name="swap")
        self._version = version
        self._client = client
        self._model = demo.workspace.project.name if demo.workspace is not None else ""

    def run(self) -> None:
        """Promote the version, where there is one."""
        if self._version:
            self._client.promote(self._model, self._version)


def _look_at_people(demo: Demo, client: Client, ratings: list[Rating]) -> None:
    with demo.steps.step("recommend", "fresh recommendations for a few users, and 100 to measure") as notes:
        library = Library(demo.project / "raw")
        lately = {one.rating.user for one in demo.played.predictions}
        demo.people = [meet(client, library, user, ratings) for user in choose_people(library, ratings, lately)]
        demo.recommend_seconds = time_recommendations(client, sorted(lately))
        notes += [f"user {one.user} ({one.description}): {one.slate[0].movie.title}, …" for one in demo.people]


def _report(demo: Demo) -> None:
    with demo.steps.step("report", "live metrics; replay every slate and compare bit by bit") as notes:
        notes += _lines(demo.steps.command("report"), "bit-equal", "1e-5")
    assert demo.workspace is not None
    latest = max(demo.workspace.reports_folder.glob("report-*.json"))
    demo.report = json.loads(latest.read_text())


def _judge(demo: Demo) -> Judgement:
    assert demo.workspace is not None
    with demo.steps.step("judge", "score the same ratings with baselines and with the models of before"):
        demo.steps.command("samples", "--name", "played")
        return judge(demo.workspace, "played", LIVE_SINCE, demo.runs, demo.played.predictions, SERVED)


def _charts(demo: Demo, judgement: Judgement) -> dict[str, charts.Picture]:
    with demo.steps.step("page", "draw the plots and write the page"):
        return {
            "auc": charts.auc_picture(judgement),
            "calibration": charts.calibration_picture(judgement, [AVERAGE, *list(demo.runs)[1:], SERVED]),
            "running": charts.running_picture(judgement, [AVERAGE, *demo.runs, SERVED], demo.swapped),
        }


def _print_results(demo: Demo, judgement: Judgement) -> None:
    console = demo.steps.console
    console.print("\n[bold]AUC on the live ratings[/] (bars begin at 0.5, chance)")
    for line in charts.auc_text(judgement):
        console.print(f"  {line}")
    console.print("\n[bold]Calibration as served[/]: what it said, and what came")
    for line in charts.calibration_text(judgement.of(SERVED)):
        console.print(f"  {line}")
    for person in demo.people[:1]:
        console.print()
        console.print(_person_table(person))


def _person_table(person: Person) -> Table:
    table = Table(title=f"User {person.user} ({person.description})", title_justify="left", box=None, pad_edge=False)
    table.add_column("rated last", style="dim")
    table.add_column("recommended now")
    for row in range(max(len(person.history), len(person.slate))):
        past = f"{'★' * person.history[row][1]:<5} {person.history[row][0].title}" if row < len(person.history) else ""
        fresh = f"{person.slate[row].score:.0%} {person.slate[row].movie.title}" if row < len(person.slate) else ""
        table.add_row(past, fresh)
    return table


def _latest(demo: Demo) -> str:
    assert demo.workspace is not None
    return latest_run(demo.workspace.runs_folder).id


def _lines(printed: str, *words: str) -> list[str]:
    """Return the lines that hold one of some words."""
    return [line.strip() for line in printed.splitlines() if any(word in line for word in words)]


if __name__ == "__main__":
    main()
