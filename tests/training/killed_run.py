"""Trains and dies by SIGKILL at a given step: ``python -m tests.training.killed_run FOLDER STEP PLACE``.

PLACE ``step`` dies between steps, ``checkpoint`` while a checkpoint is being written.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from bowerbird.bundles import atomic
from bowerbird.training.progress import Silent
from bowerbird.training.run import resume_training, train_model
from tests.training.conftest import SMALL, request


class Killer(Silent):
    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, step: int, loss: float, rate: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def die_in_checkpoint(step: int) -> None:
    """Make the checkpoint after ``step`` stop halfway through its bytes."""
    original = atomic._sync
    seen = 0

    def sync(path: Path) -> None:
        nonlocal seen
        if ".checkpoint" in path.name:
            seen += 1
            if seen == step:
                path.write_bytes(path.read_bytes()[:1000])
                os.kill(os.getpid(), signal.SIGKILL)
        original(path)

    atomic._sync = sync


def main() -> None:
    torch.set_num_threads(1)
    folder, step, place = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if place == "checkpoint":
        die_in_checkpoint(step)
        step = -1
    reporter = Killer(step)
    runs = sorted((folder / "runs").iterdir()) if (folder / "runs").is_dir() else []
    if runs:
        resume_training(folder / "samples", runs[0], reporter)
    else:
        train_model(request(folder, "din", trainer={**SMALL, "checkpoint_steps": 3}), reporter)


if __name__ == "__main__":
    main()
