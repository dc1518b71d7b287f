"""A run that dies at ten random steps, between them and in the middle of checkpoints, loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bowerbird.bundles.arrays import read_arrays
from bowerbird.training.curve import read_curve
from bowerbird.training.run import resume_training, train_model
from bowerbird.training.run_record import read_run
from tests.training.conftest import SMALL, request
from tests.training.synthetic import write_samples

REPOSITORY = Path(__file__).parents[2]
BATCH = 32
STEPS = 2 * -(-1200 // BATCH)


def run_killed(folder, step, place):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.killed_run", str(folder), str(step), place, str(BATCH)]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, timeout=120, check=False)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_killed_at_ten_random_steps_and_resumed_the_weights_are_those_of_an_uninterrupted_run(
    tmp_path, one_thread
):
    write_samples(tmp_path / "samples" / "default")
    random = np.random.default_rng(0)
    for step in np.sort(random.choice(np.arange(4, STEPS - 8), 10, replace=False)):
        place = "checkpoint" if random.random() < 0.4 else "step"
        died = run_killed(tmp_path, step if place == "step" else random.integers(1, 3), place)
        assert died.returncode == -9, died.stderr.decode()
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_run(folder).status == "training"
    resume_training(tmp_path / "samples", folder)
    asked = request(tmp_path, "din", runs_folder=tmp_path / "whole", trainer={**SMALL, "batch_size": BATCH})
    whole = train_model(asked)
    for name in ("tables.safetensors", "dense.safetensors"):
        left, right = read_arrays(folder / name), read_arrays(whole.folder / name)
        assert left.keys() == right.keys()
        for array in left:
            assert left[array].tobytes() == right[array].tobytes(), array
    losses = [[(line.step, line.loss, line.value) for line in read_curve(run)] for run in (folder, whole.folder)]
    assert losses[0] == losses[1]
