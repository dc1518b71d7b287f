"""The demo's steps: a line each, with its time, and the commands that they run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bowerbird.errors import BowerbirdError


class CommandError(BowerbirdError):
    """A ``bowerbird`` command failed; ``what`` holds what it printed."""


class Steps:
    """Prints what happens, and keeps the seconds that each step took."""

    def __init__(self, project: Path, console: Console) -> None:
        self.project = project
        self.console = console
        self.seconds: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[list[str]]:
        """Time a step; lines appended to what it yields are shown below it."""
        notes: list[str] = []
        started = time.perf_counter()
        with self.console.status(f"[bold]{name}[/]  {what}"):
            yield notes
        self.done(name, what, time.perf_counter() - started, notes)

    def done(self, name: str, what: str, seconds: float, notes: Sequence[str] = ()) -> None:
        """Print and keep a step that is over."""
        self.seconds.append((name, seconds))
        self.console.print(f"[green]✓[/] [bold]{name:<10}[/] {what} [dim]{seconds:,.1f} s[/]", soft_wrap=True)
        for note in notes:
            self.console.print(f"             [dim]{escape(note)}[/]", soft_wrap=True, highlight=False)

    def command(self, name: str, *arguments: str) -> str:
        """Run ``bowerbird NAME`` on the project and return what it printed; raises CommandError."""
        command = [sys.executable, "-m", "bowerbird.cli.main", name, *arguments, "--project", str(self.project)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            printed = f"{done.stdout}{done.stderr}".strip()
            shown = " ".join(["bowerbird", name, *arguments])
            raise CommandError(f"`{shown}` failed:\n{printed}", "The line above says what to do.")
        return done.stdout.strip()
