"""Progress of an ingest on a terminal: rate and time left; silent elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class IngestProgress:
    """A bar over several files, as fractions of their sizes; ``enabled`` shows it, given a terminal."""

    def __init__(self, sizes: list[int], enabled: bool) -> None:
        console = Console(stderr=True)
        self._sizes = sizes
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]:>14}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("", total=max(1, sum(sizes)), rate="")

    def update(self, file: int, name: str, fraction: float, rows: int) -> None:
        """Show how far file number ``file`` is, and how many rows have been read in all."""
        done = sum(self._sizes[:file]) + fraction * self._sizes[file]
        elapsed = self._progress.tasks[0].elapsed or 0.0
        rate = f"{rows / elapsed:,.0f} rows/s" if elapsed > 0 else ""
        self._progress.update(self._task, completed=done, description=name, rate=rate)

    def storing(self) -> None:
        """Show that all files have been read."""
        self._progress.update(self._task, completed=sum(self._sizes), description="storing")

    def __enter__(self) -> IngestProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
