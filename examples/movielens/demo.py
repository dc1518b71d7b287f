"""The whole loop on real data: ``make demo``, or ``python demo.py`` where Bowerbird is installed."""

from __future__ import annotations

import argparse
import json
import sys
import time
import webbrowser
from pathlib import Path

import charts
from judge import Judgement, judge
from offline import learn, prepare_project
from online import go_live
from page import Findings, write_page
from people import Person
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from state import AVERAGE, DEEP, SERVED, Demo, Options, lines_with
from steps import Steps

from bowerbird.errors import BowerbirdError

LIVE_SINCE = "1998-04-05"
"""The first day of the ratings that are played."""


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
        console.print(f"[red bold]Error:[/] {escape(error.what)}", soft_wrap=True)
        console.print(f"       {escape(error.remedy)}", soft_wrap=True)
        sys.exit(1)
    console.print(
        f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. Look at [bold]{page.resolve()}[/]",
        soft_wrap=True,
    )
    if options.open_page:
        webbrowser.open(page.resolve().as_uri())


def _options() -> Options:
    parser = argparse.ArgumentParser(description="The whole loop on MovieLens-100k.")
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="FOLDER", help="where everything goes (default: demo)"
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="the wheel with the data, where it is here already")
    parser.add_argument("--epochs", type=int, default=2, help="most passes over the training samples")
    parser.add_argument("--live", type=int, metavar="N", help="play only the first N live ratings")
    parser.add_argument("--open", action="store_true", dest="open_page", help="open the page in a browser at the end")
    given = parser.parse_args()
    return Options(given.out, given.wheel, given.epochs, given.live, given.open_page)


def run(demo: Demo) -> Path:
    """Run every step; return the page."""
    prepare_project(demo)
    learn(demo)
    history = go_live(demo)
    _report(demo)
    judgement = _judge(demo)
    _print_results(demo, judgement)
    findings = Findings(
        demo.steps.seconds, history, judgement, demo.played, demo.swapped, demo.refused, demo.report,
        demo.people, demo.recommend_seconds, SERVED, DEEP, AVERAGE, _charts(demo, judgement), demo.project,
    )  # fmt: skip
    return write_page(demo.options.out / "index.html", findings)


def _report(demo: Demo) -> None:
    with demo.steps.step("report", "live metrics; replay every slate and compare bit by bit") as notes:
        notes += lines_with(demo.steps.command("report"), "bit-equal", "1e-5")
    latest = max(demo.workspace.reports_folder.glob("report-*.json"))
    demo.report = json.loads(latest.read_text())


def _judge(demo: Demo) -> Judgement:
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


if __name__ == "__main__":
    main()
