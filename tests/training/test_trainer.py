import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from bowerbird.bundles.arrays import read_arrays
from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import CorruptionError, InputError
from bowerbird.models import model_config
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.source import MemorySource
from bowerbird.training.checkpoint import CHECKPOINT_FILE
from bowerbird.training.config import trainer_config
from bowerbird.training.curve import CURVE_FILE, read_curve
from bowerbird.training.network import Network
from bowerbird.training.optimisers import build_optimiser, learning_rate_factor
from bowerbird.training.precision import choose_precision
from bowerbird.training.run import resume_training, train_model
from bowerbird.training.run_record import read_run
from bowerbird.training.trainer import Trainer
from tests.training.conftest import SMALL, request
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, TASKS

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_curve.json")


@pytest.fixture(scope="module")
def samples(workspace):
    return SampleFolder(workspace / "samples" / "default")


def network_of(samples, name="din", **options):
    torch.manual_seed(3)
    collection = EmbeddingCollection.Config(**options).build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read(DAYS[0], DAYS[1])))
    return Network(collection, model_config(name).build(collection.inputs, TASKS))


def trainer_of(samples, folder, network=None, **config):
    network = network or network_of(samples)
    train = encode_samples(network.collection, samples.read(DAYS[0], DAYS[1]))
    held = encode_samples(network.collection, samples.read(DAYS[2], DAYS[2]))
    options = trainer_config({**SMALL, **config})
    source = MemorySource(train, options.batch_size, 5, shuffle=options.shuffle)
    return Trainer(network, source, held, options, folder, fingerprint="test")


def run_killed(workspace, step, place):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.killed_run", str(workspace), str(step), place]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, timeout=120, check=False)


def final_arrays(folder):
    return {**read_arrays(folder / "tables.safetensors"), **read_arrays(folder / "dense.safetensors")}


def test_a_run_killed_twice_ends_bit_for_bit_like_an_uninterrupted_one(workspace, tmp_path, din_run):
    shutil.copytree(workspace / "samples", tmp_path / "samples")
    for step, place in ((8, "step"), (2, "checkpoint")):
        died = run_killed(tmp_path, step, place)
        assert died.returncode == -9, died.stderr.decode()
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_run(folder).status == "training"
    finished = resume_training(tmp_path / "samples", folder)
    whole = train_model(request(tmp_path, "din", trainer={**SMALL, "checkpoint_steps": 1000}))
    left, right = final_arrays(folder), final_arrays(whole.folder)
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.tobytes() == right[name].tobytes(), name
    assert msgspec.json.encode(finished.metrics) == msgspec.json.encode(whole.metrics)
    drop = lambda curve: [(line.step, line.loss, line.value, line.metrics) for line in curve]  # noqa: E731
    assert drop(read_curve(folder)) == drop(read_curve(whole.folder))


def test_the_curve_is_the_golden_one(din_run):
    """A refactoring must not change what is learned; write the file anew when a change is meant."""
    curve = [[line.step, line.loss, line.value] for line in read_curve(din_run.folder)]
    expected = json.loads(GOLDEN.read_text())
    assert [line[0] for line in curve] == [line[0] for line in expected]
    assert np.allclose(curve, expected, atol=5e-3)


def test_training_learns(din_run):
    assert din_run.metrics["test"]["click"]["auc"] > 0.72
    assert din_run.metrics["test"]["long"]["auc"] > 0.75
    assert din_run.metrics["validation"]["click"]["pcoc"] == pytest.approx(1, abs=0.02)


def test_early_stopping_keeps_the_best_weights(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path, epochs=12, learning_rate=0.05, patience=2, average=0.0)
    result = trainer.fit()
    curve = read_curve(tmp_path)
    assert result.steps < trainer.steps
    assert result.best == max(line.value for line in curve)
    assert len(curve) - 1 - [line.value for line in curve].index(result.best) == 2
    metrics = trainer._validation_metrics()
    assert np.mean([values["auc"] for values in metrics.values()]) == result.best


def test_log_loss_can_be_watched(samples, tmp_path):
    result = trainer_of(samples, tmp_path, metric="log_loss").fit()
    assert result.best == min(line.value for line in read_curve(tmp_path))


def test_evaluations_within_an_epoch(samples, tmp_path):
    trainer_of(samples, tmp_path, evaluations_per_epoch=3, epochs=1).fit()
    assert [line.step for line in read_curve(tmp_path)] == [3, 6, 10]


def test_immature_labels_do_not_move_weights(samples, tmp_path):
    left, right = trainer_of(samples, tmp_path / "a", epochs=1), trainer_of(samples, tmp_path / "b", epochs=1)
    right.train.samples.labels["click"][:] = np.nan
    right.train.samples.labels["long"][:] = np.nan
    before = {name: value.clone() for name, value in right.network.model.named_parameters()}
    right.config = trainer_config({**SMALL, "weight_decay": 0.0, "embedding_decay": 0.0})
    right.optimiser = build_optimiser(right.network, right.config)
    right.state.precision = left.state.precision = "float32"
    right._step(right.train.samples.batch(np.arange(64)))
    left._step(left.train.samples.batch(np.arange(64)))
    for name, value in right.network.model.named_parameters():
        assert torch.equal(value, before[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in left.network.model.named_parameters())


def test_a_loss_that_is_not_finite_names_the_feature(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path)
    with torch.no_grad():
        trainer.network.collection.table("topic")[:] = float("nan")
    with pytest.raises(InputError, match=r"epoch 0, batch 0: feature 'topic'"):
        trainer.fit()


def test_a_loss_that_is_not_finite_without_a_culprit_says_so(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path)
    with torch.no_grad():
        trainer.network.model.heads.linear.bias[:] = float("nan")
    with pytest.raises(InputError, match="no feature is to blame"):
        trainer.fit()


def test_a_checkpoint_of_something_else_is_refused(samples, tmp_path):
    trainer_of(samples, tmp_path, epochs=1).fit()
    other = trainer_of(samples, tmp_path, epochs=1)
    other.state.fingerprint = "other"
    with pytest.raises(CorruptionError, match="'test', not of 'other'"):
        other.fit()


def test_a_damaged_checkpoint_is_refused(samples, tmp_path):
    trainer_of(samples, tmp_path, epochs=1).fit()
    file = tmp_path / CHECKPOINT_FILE
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CorruptionError, match=CHECKPOINT_FILE):
        trainer_of(samples, tmp_path, epochs=1).fit()


def test_precision_is_measured_without_a_trace(samples):
    network = network_of(samples)
    batch = encode_samples(network.collection, samples.read(DAYS[0], DAYS[0])).batch(np.arange(100))
    before, random = network.arrays(), torch.get_rng_state()
    assert choose_precision(network, batch, "auto") in ("float32", "bfloat16")
    assert choose_precision(network, batch, "bfloat16") == "bfloat16"
    after = network.arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_bfloat16_learns_too(workspace):
    result = train_model(request(workspace, "din", trainer={**SMALL, "precision": "bfloat16"}))
    assert result.record.precision == "bfloat16"
    assert result.metrics["test"]["click"]["auc"] > 0.72


def test_time_order_is_kept_on_request(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path, shuffle=False)
    assert (np.diff(trainer.train.samples.time[trainer.train.order(0)]) >= 0).all()
    shuffled = trainer_of(samples, tmp_path)
    assert not np.array_equal(shuffled.train.order(0), shuffled.train.order(1))
    assert np.array_equal(shuffled.train.order(1), shuffled.train.order(1))


def test_the_learning_rate_warms_up_and_falls():
    config = trainer_config({"warmup_steps": 10})
    factors = [learning_rate_factor(config, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1, rel=0.01)
    assert factors[99] == pytest.approx(0.05, abs=0.01)
    constant = trainer_config({"warmup_steps": 0, "schedule": "constant"})
    assert {learning_rate_factor(constant, step, 100) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [({"epoch": 3}, "Did you mean 'epochs'"), ({"epochs": "many"}, "epochs"), ({"precision": "fp8"}, "precision")],
)
def test_a_wrong_option_is_named(values, message):
    with pytest.raises(InputError, match=message):
        trainer_config(values)


def test_a_line_cut_short_in_the_curve_is_ignored(din_run, tmp_path):
    data = (din_run.folder / CURVE_FILE).read_bytes()
    (tmp_path / CURVE_FILE).write_bytes(data[:-10])
    assert len(read_curve(tmp_path)) == len(read_curve(din_run.folder)) - 1
