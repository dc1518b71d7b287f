"""What a person sees while a model trains."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bowerbird.training.curve import Evaluation


class Reporter(Protocol):
    """Follows a run."""

    def start(self, steps: int, done: int) -> None:
        """Learn how many steps there are and how many are done already."""

    def advance(self, step: int, loss: float, rate: float) -> None:
        """Follow one step; ``rate`` is in samples per second."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Follow one evaluation."""

    def say(self, text: str) -> None:
        """Show a line."""


class Silent:
    """Shows nothing."""

    def start(self, steps: int, done: int) -> None:
        """Ignore it."""

    def advance(self, step: int, loss: float, rate: float) -> None:
        """Ignore it."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Ignore it."""


class Terminal:
    """A progress bar with rate and time left, and a line per evaluation; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} samples/s "),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, steps: int, done: int) -> None:
        """Show the bar."""
        self._progress.start()
        self._task = self._progress.add_task("training", total=steps, completed=done, loss=0.0, rate=0.0)

    def advance(self, step: int, loss: float, rate: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=step, loss=loss, rate=rate)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Print the evaluation's metrics."""
        tasks = "   ".join(
            f"{task} AUC {values['auc']:.4f} log loss {values['log_loss']:.4f}"
            for task, values in evaluation.metrics.items()
        )
        self.say(f"epoch {evaluation.epoch:.1f}  loss {evaluation.loss:.4f}   validation: {tasks}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False)
