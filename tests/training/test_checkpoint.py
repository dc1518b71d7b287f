"""Checkpoints that are damaged, cut short or refused by the disk."""

import resource
import tracemalloc
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import CorruptionError, StorageError
from bowerbird.training import checkpoint as module
from bowerbird.training.checkpoint import (
    CHECKPOINT_FILE,
    PREVIOUS_FILE,
    Checkpoint,
    LoopState,
    load_checkpoint,
    save_checkpoint,
)
from bowerbird.training.run import resume_training, train_model
from bowerbird.training.run_record import read_run
from tests.training.conftest import SMALL, request


def make(step, rows=100):
    weights = {"table": np.full((rows, 4), step, np.float32), "bias": np.arange(3, dtype=np.float64)}
    return Checkpoint(LoopState("test", "float32", step=step), {"weights": weights, "best": {"empty": np.zeros(0)}})


def test_what_is_saved_is_loaded(tmp_path):
    saved = make(7)
    random = torch.get_rng_state()
    save_checkpoint(tmp_path, saved)
    torch.rand(3)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert loaded.state == saved.state
    assert loaded.warning == ""
    assert loaded.groups.keys() == saved.groups.keys()
    for group, arrays in saved.groups.items():
        for name, array in arrays.items():
            assert loaded.groups[group][name].dtype == array.dtype
            assert np.array_equal(loaded.groups[group][name], array)


def test_none_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None


def test_what_was_loaded_outlives_the_next_checkpoints(tmp_path):
    save_checkpoint(tmp_path, make(1))
    loaded = load_checkpoint(tmp_path)
    loaded.groups["weights"]["table"][0] = 9
    for step in (2, 3, 4):
        save_checkpoint(tmp_path, make(step))
    assert (loaded.groups["weights"]["table"][1:] == 1).all()
    assert load_checkpoint(tmp_path).state.step == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS_FILE, CHECKPOINT_FILE]


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_any_flipped_bit_is_noticed(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("flipped")
    save_checkpoint(folder, make(1, rows=5))
    file = folder / CHECKPOINT_FILE
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    file.write_bytes(data)
    with pytest.raises(CorruptionError, match="checksum"):
        load_checkpoint(folder)


@pytest.mark.parametrize("left", [0, 3, 200, -1])
def test_a_checkpoint_cut_short_gives_way_to_the_one_before(tmp_path, left):
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2))
    file = tmp_path / CHECKPOINT_FILE
    file.write_bytes(file.read_bytes()[:left])
    loaded = load_checkpoint(tmp_path)
    assert loaded.state.step == 1
    assert CHECKPOINT_FILE in loaded.warning and "of step 1" in loaded.warning
    (tmp_path / PREVIOUS_FILE).unlink()
    with pytest.raises(CorruptionError, match="Delete it to train from the beginning"):
        load_checkpoint(tmp_path)


def test_a_crash_between_two_renames_leaves_the_one_before(tmp_path):
    save_checkpoint(tmp_path, make(1))
    (tmp_path / CHECKPOINT_FILE).rename(tmp_path / PREVIOUS_FILE)
    assert load_checkpoint(tmp_path).state.step == 1


@contextmanager
def file_size_limit(limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path):
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_size_limit(20_000), pytest.raises(StorageError, match="Free space"):
        save_checkpoint(tmp_path, make(3, rows=10_000))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_checkpoint(tmp_path).state.step == 2


def test_a_run_that_met_a_full_disk_goes_on_bit_for_bit(workspace, tmp_path, din_run, monkeypatch):
    original, calls = module.new_file, []

    @contextmanager
    def full(path):
        with original(path) as file:
            calls.append(path)
            yield file
            if len(calls) == 3:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "new_file", full)
    asked = request(workspace, "din", runs_folder=tmp_path, trainer={**SMALL, "checkpoint_steps": 4})
    with pytest.raises(StorageError, match="No space left"):
        train_model(asked)
    (folder,) = tmp_path.iterdir()
    assert read_run(folder).status == "training"
    finished = resume_training(workspace / "samples", folder)
    assert msgspec.json.encode(finished.metrics) == msgspec.json.encode(din_run.metrics)
    for name in ("tables.safetensors", "dense.safetensors"):
        assert (finished.folder / name).read_bytes() == (din_run.folder / name).read_bytes()


def test_writing_copies_nothing(tmp_path):
    """A checkpoint of 64 MB is written with less than a tenth of it in further memory."""


    saved = make(1, rows=4_000_000)
    tracemalloc.start()
    save_checkpoint(tmp_path, saved)
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    load_checkpoint(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()
