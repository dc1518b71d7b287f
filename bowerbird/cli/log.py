"""``bowerbird init``, ``bowerbird ingest`` and ``bowerbird dead-letters``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.log.dead_letters import count_dead_letters, read_dead_letters
from bowerbird.log.scaffolding.infer import infer
from bowerbird.log.scaffolding.scaffold import example_files, inferred_files, write_project
from bowerbird.log.sources.ingest import TOLERANCE, ingest
from bowerbird.plan.check import require_valid


@click.command("ingest")
@click.option("--source", "sources", multiple=True, help="Only this source; may be given several times.")
@click.option("--tolerance", default=TOLERANCE, show_default=True, help="How far after now an event may lie.")
@project_option
def ingest_command(workspace: Workspace, sources: tuple[str, ...], tolerance: str) -> None:
    """Read the sources' files into the log. What is there already stays; doing it twice changes nothing."""
    require_valid(workspace.project)
    report = ingest(workspace, sources or None, tolerance=tolerance)
    for line in report.lines():
        console.print(line, markup=False)


@click.command("dead-letters")
@click.option("--source", help="Only of this source (`live` for POST /v1/events).")
@click.option("--reason", help="Only with this reason.")
@click.option("--limit", default=20, show_default=True, help="How many to list; 0 lists counts alone.")
@project_option
def dead_letters_command(workspace: Workspace, source: str | None, reason: str | None, limit: int) -> None:
    """Count the rejected rows by source and reason, and list them with file and line."""
    folder = workspace.dead_letter_folder
    counts = count_dead_letters(folder)
    if not counts:
        console.print("No row was rejected.")
        return
    for (source_name, reason_name), number in sorted(counts.items()):
        console.print(f"{number:>10,}  {source_name}: {reason_name}", markup=False)
    for letter in islice(read_dead_letters(folder, source, reason), limit):
        console.print(f"{letter.file}:{letter.line}: {letter.reason}: {letter.detail}", markup=False, soft_wrap=True)


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A log to infer from."
)
def init_command(folder: Path, file: Path | None) -> None:
    """Make a project folder: a small working example, or a first schema of your own log with --from."""
    if file is None:
        write_project(folder, example_files())
        console.print(f"Wrote a small example to {folder}. Next:", markup=False)
    else:
        guess = infer(file)
        write_project(folder, inferred_files(guess, file))
        for line in guess.explanations:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        console.print(f"Wrote {folder / 'project.py'}: correct what was guessed wrongly. Next:", markup=False)
    for command in ("check", "ingest", "samples"):
        console.print(f"  bowerbird {command} --project {folder}", markup=False)
