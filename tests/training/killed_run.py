"""Trains and dies by SIGKILL at a given step: ``python -m tests.training.killed_run FOLDER STEP PLACE [BATCH_SIZE]``.

PLACE ``step`` dies between steps, ``checkpoint`` while the STEP-th checkpoint of this process is being written.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch

from bowerbird.training import checkpoint
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
    """Make the checkpoint number ``step`` stop somewhere in its bytes."""
    original = checkpoint.new_file
    seen = 0

    @contextmanager
    def new_file(path: Path) -> Iterator[BinaryIO]:
        nonlocal seen
        with original(path) as file:
            seen += 1
            yield file
            if seen == step:
                file.truncate(file.tell() * (step * 37 % 100) // 100)
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.new_file = new_file


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
        batch_size = int(sys.argv[4]) if len(sys.argv) > 4 else SMALL["batch_size"]
        trainer = {**SMALL, "checkpoint_steps": 3, "batch_size": batch_size}
        train_model(request(folder, "din", trainer=trainer), reporter)


if __name__ == "__main__":
    main()
