"""Native tables inside a model: they learn as PyTorch's do, come back from checkpoints bit for bit, grow and expire."""

import numpy as np
import pytest
import torch

from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.models import model_config
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.source import MemorySource
from bowerbird.training.config import trainer_config
from bowerbird.training.network import Network
from bowerbird.training.run import train_model
from bowerbird.training.table_files import TableFiles
from bowerbird.training.trainer import Trainer
from tests.training.conftest import SMALL, request
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, TASKS, World, keys, synthetic_plan

ADAM = {"*": {"optimiser": {"name": "Adam", "exact": True}}}
PLAIN = {**SMALL, "optimiser": "adam", "average": 0.0, "clip_norm": 0.0, "precision": "float32"}


@pytest.fixture(scope="module")
def samples(workspace):
    return SampleFolder(workspace / "samples" / "default")


def trainer_of(samples, folder, tables, stop=None, **config):
    torch.manual_seed(3)
    collection = EmbeddingCollection.Config(tables=tables).build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read(DAYS[0], DAYS[1])))
    torch.manual_seed(4)
    network = Network(collection, model_config("din", {"dropout": 0.0}).build(collection.inputs, TASKS))
    train = encode_samples(collection, samples.read(DAYS[0], DAYS[1]))
    held = encode_samples(collection, samples.read(DAYS[2], DAYS[2]))
    options = trainer_config({**PLAIN, **config})
    return Trainer(network, MemorySource(train, options.batch_size, 5), held, options, folder, fingerprint="native")


def test_a_native_table_with_exact_adam_learns_as_pytorchs(samples, tmp_path):
    native, exact = trainer_of(samples, tmp_path / "a", ADAM), trainer_of(samples, tmp_path / "b", {})
    exact.network.collection.import_arrays(
        {name: value.copy() for name, value in native.network.collection.export_arrays().items()}
    )
    assert set(native.network.collection.native) == set(native.network.collection.vocabularies)
    exact = Trainer(
        exact.network, exact.train, exact.validation, exact.config, exact.folder, fingerprint="native"
    )  # the tables' parameter is new
    for trainer in (native, exact):
        trainer.state.precision = "float32"
    ours, theirs = native.network.collection.export_arrays(), exact.network.collection.export_arrays()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    before = {name: value.copy() for name, value in ours.items()}
    for place in range(6):
        batches = [trainer.train.samples.batch(np.arange(place * 64, place * 64 + 64)) for trainer in (native, exact)]
        losses = [trainer._step(batch) for trainer, batch in zip((native, exact), batches, strict=True)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    ours, theirs = native.network.collection.export_arrays(), exact.network.collection.export_arrays()
    for name in ours:
        assert np.allclose(ours[name], theirs[name], atol=2e-5), name
    assert any(not np.array_equal(before[name], ours[name]) for name in ours)


@pytest.mark.parametrize("optimiser", ["SGD", "RowWiseAdagrad", "Adam", "FTRL"])
def test_an_interrupted_run_goes_on_bit_for_bit(samples, tmp_path, optimiser):
    tables = {"user": {"optimiser": {"name": optimiser, "learning_rate": 0.02}, "precision": "bfloat16"}}
    whole = trainer_of(samples, tmp_path / "whole", tables, epochs=3, patience=9)
    whole.fit()
    first = trainer_of(samples, tmp_path / "cut", tables, epochs=3, patience=9, checkpoint_steps=4)
    step = first._step

    def interrupted(batch):
        if first.state.step == 14:
            raise KeyboardInterrupt
        return step(batch)

    first._step = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    again = trainer_of(samples, tmp_path / "cut", tables, epochs=3, patience=9, checkpoint_steps=4)
    again.fit()
    left, right = (trainer.network.collection.export_arrays() for trainer in (whole, again))
    assert all(left[name].tobytes() == right[name].tobytes() for name in left)
    dense = [trainer.network.arrays() for trainer in (whole, again)]
    assert all(dense[0][name].tobytes() == dense[1][name].tobytes() for name in dense[0])
    assert len(list((tmp_path / "cut" / "tables").iterdir())) <= 4


def test_a_vocabulary_that_outgrows_the_limit_becomes_native():
    torch.manual_seed(0)
    collection = EmbeddingCollection.Config(minimum_count=1, exact_rows=50).build(synthetic_plan())
    collection.admit({"user": (keys(np.arange(40)), np.ones(40, np.int64))})
    assert "user" not in collection.native
    before = collection.table("user").detach().clone()
    collection.admit({"user": (keys(np.arange(100)), np.ones(100, np.int64))})
    assert "user" in collection.native
    assert torch.equal(collection.table("user")[:42], before)
    fresh = EmbeddingCollection.Config(minimum_count=1, exact_rows=50).build(synthetic_plan())
    fresh.import_arrays(collection.export_arrays())
    assert set(fresh.native) == {"user"}
    everyone = keys(np.arange(100))
    rows = [one.indexes["user"].find(everyone) for one in (collection, fresh)]
    assert (rows[0] > 1).all()
    assert torch.equal(collection.table("user")[rows[0]], fresh.table("user")[rows[1]])


def test_a_stream_admits_and_expires_keys():
    torch.manual_seed(0)
    tables = {"*": {"admission": {"minimum_count": 2}, "expiry": {"max_age": 100}}}
    collection = EmbeddingCollection.Config(tables=tables).build(synthetic_plan())
    block, *_ = World().draw(200)
    collection.observe(block, 1000.0)
    collection.observe(block, 1001.0)
    known = len(collection.native["user"].table)
    assert known == len(np.unique(block.categories["user"]))
    assert collection.expire(1050.0)["user"] == 0
    assert collection.expire(1200.0)["user"] == known
    assert (collection.indexes["user"].find(block.categories["user"]) == 1).all()


def test_exact_tables_do_not_grow_in_a_stream():
    collection = EmbeddingCollection.Config().build(synthetic_plan())
    with pytest.raises(InputError, match="exact"):
        collection.observe(World().draw(3)[0], 0.0)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"nobody": {}}, "nobody"),
        ({"user": {"dimension": 3}}, "dimension"),
        ({"user": {"optimiser": {"name": "Adadelta"}}}, "Adadelta"),
        ({"user": {"precision": "int4"}}, "int4"),
    ],
)
def test_options_that_make_no_sense_are_refused(tables, words):
    with pytest.raises(InputError, match=words):
        EmbeddingCollection.Config(tables=tables).build(synthetic_plan())


def test_the_whole_run_with_native_tables_learns(workspace, tmp_path):
    tables = {"*": {"optimiser": {"name": "Adam"}}}
    result = train_model(
        request(workspace, "din", embedding={"tables": tables}, runs_folder=tmp_path / "runs", trainer={**SMALL})
    )
    assert result.metrics["validation"]["click"]["auc"] > 0.7


def test_table_files_of_other_steps_go(tmp_path):
    torch.manual_seed(0)
    collection = EmbeddingCollection.Config(tables={"user": {}}).build(synthetic_plan())
    files = TableFiles(tmp_path, collection)
    for step in (1, 2, 3, 4, 5):
        files.save(step)
        files.keep(step, 1)
    assert sorted(file.name for file in (tmp_path / "tables").iterdir()) == [
        f"{collection.vocabularies.index('user')}-{step}.table" for step in (1, 4, 5)
    ]
