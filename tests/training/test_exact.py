"""The exact mode: dense Adam with L2 over whole tables, the learning rate on plateaus, learned task weights."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bowerbird.embedding import EmbeddingCollection
from bowerbird.models import model_config
from bowerbird.models.ranker import Targets
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.source import MemorySource
from bowerbird.training.config import trainer_config
from bowerbird.training.curve import read_curve
from bowerbird.training.initialise import start_linear_layers
from bowerbird.training.losses import TaskWeighting, task_losses
from bowerbird.training.network import Network
from bowerbird.training.optimisers import add_l2
from bowerbird.training.trainer import Trainer
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, TASKS

EXACT = {
    "optimiser": "adam", "table_l2": 0.05, "schedule": "plateau", "warmup_steps": 0, "average": 0.0,
    "clip_norm": 10.0, "precision": "float32", "batch_size": 256, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(workspace):
    return SampleFolder(workspace / "samples" / "default")


def trainer_of(samples, folder, **config):
    torch.manual_seed(3)
    collection = EmbeddingCollection.Config(minimum_count=1, initial_scale=1e-4).build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read(DAYS[0], DAYS[1])))
    network = Network(collection, model_config("lr").build(collection.inputs, TASKS))
    train = encode_samples(collection, samples.read(DAYS[0], DAYS[1]))
    held = encode_samples(collection, samples.read(DAYS[2], DAYS[2]))
    options = trainer_config({**EXACT, **config})
    source = MemorySource(train, options.batch_size, 5)
    return Trainer(network, source, held, options, folder, fingerprint="exact")


def test_a_step_is_adam_on_the_loss_with_l2_of_whole_tables(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path)
    network = trainer.network
    plain = torch.optim.Adam(network.parameters(), lr=1e-3)
    start = {name: value.detach().clone() for name, value in network.state_dict().items()}
    batches = [trainer.train.samples.batch(np.arange(place * 100, place * 100 + 100)) for place in range(3)]
    trainer.state.precision = "float32"
    for batch in batches:
        trainer._step(batch)
    ours = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(start)
    for batch in batches:
        logits = network(batch.rows).logits
        targets = Targets(
            {task: torch.from_numpy(values) for task, values in batch.labels.items()},
            torch.from_numpy(batch.weight),
            lambda: torch.zeros(100, dtype=torch.int64),
        )
        squares = sum((table**2).sum() for table in network.collection.exact_parameters)
        loss = sum(task_losses(logits, targets).values()) + 0.05 / 2 * squares
        plain.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        plain.step()
    moved = 0
    for name, value in network.state_dict().items():
        assert torch.allclose(ours[name], value, atol=1e-6), name
        moved += int((value != start[name]).sum()) if name.startswith("collection.exact") else 0
    assert moved > 0.99 * sum(table.numel() for table in network.collection.exact_parameters)


def test_l2_reaches_parameters_without_a_gradient(samples, tmp_path):
    network = trainer_of(samples, tmp_path).network
    add_l2(network, trainer_config({**EXACT, "dense_l2": 0.5}))
    for table in network.collection.exact_parameters:
        assert torch.equal(table.grad, 0.05 * table)
    for value in network.model.parameters():
        assert torch.equal(value.grad, 0.5 * value)


def test_the_rate_falls_on_a_plateau_and_never_below_its_floor(samples, tmp_path):
    trainer = trainer_of(samples, tmp_path, epochs=12, patience=6, learning_rate=0.5)
    trainer.fit()
    curve = read_curve(tmp_path)
    best, plateaus = -math.inf, 0
    for line in curve:
        plateaus += line.value <= best
        best = max(best, line.value)
        assert line.learning_rate == pytest.approx(max(0.5 * 0.1**plateaus, 1e-6))
    assert plateaus > 0


def test_learned_weights_fall_for_the_noisier_task():
    torch.manual_seed(0)
    weighting = TaskWeighting(["quiet", "noisy"], {"noisy": 2.0}, learned=True)
    optimiser = torch.optim.SGD(weighting.parameters(), lr=0.1)
    losses = {"quiet": torch.tensor(0.1), "noisy": torch.tensor(1.5)}
    for _ in range(2000):
        optimiser.zero_grad()
        weighting(losses).backward()
        optimiser.step()
    learned = {task: float(value.detach()) for task, value in weighting.log_variances.items()}
    assert learned["quiet"] == pytest.approx(math.log(2 * 0.1), abs=1e-3)
    assert learned["noisy"] == pytest.approx(math.log(2 * 2.0 * 1.5), abs=1e-3)
    fixed = TaskWeighting(["quiet", "noisy"], {"noisy": 2.0}, learned=False)
    assert float(fixed(losses)) == pytest.approx(0.1 + 2 * 1.5)


def test_linear_layers_begin_as_asked():
    class Own(nn.Linear):
        pass

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), Own(5, 5))
    kept = model[1].weight.detach().clone()
    start_linear_layers(model)
    assert float(model[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 500), rel=0.02)
    assert not model[0].bias.any()
    assert torch.equal(model[1].weight, kept)
