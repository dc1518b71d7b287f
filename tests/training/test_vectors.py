"""Samples with vectors: written, read back, learned from."""

import dataclasses

import numpy as np
import pytest

from bowerbird.bundles.registry import Registry
from bowerbird.embedding import EmbeddingCollection
from bowerbird.plan.block_rows import take_rows
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.run import TrainRequest, train_model
from tests.training.encode import encode_samples
from tests.training.vectors import WIDTH, vectors, write_vector_samples

QUICK = {"batch_size": 128, "epochs": 40, "learning_rate": 0.03}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_vector_samples(tmp_path_factory.mktemp("vectors") / "samples" / "default")


def test_vectors_are_read_back_as_written(samples):
    parts = list(SampleFolder(samples).read("2026-01-01", "2026-01-03"))
    np.testing.assert_array_equal(parts[1].block.vectors["embedding"], vectors(800, seed=1))
    some = take_rows(parts[1].block, np.array([5, 3]))
    np.testing.assert_array_equal(some.vectors["embedding"], vectors(800, seed=1)[[5, 3]])


def test_batches_hold_vectors_with_zeros_where_unknown(samples):
    folder = SampleFolder(samples)
    collection = EmbeddingCollection.Config().build(folder.plan)
    encoded = encode_samples(collection, folder.read("2026-01-01", "2026-01-02"))
    batch = encoded.batch(np.array([803, 0]))
    expected = np.stack([np.zeros(WIDTH, np.float32), vectors(800)[0]])
    np.testing.assert_array_equal(batch.rows.vectors["embedding"], expected)


@pytest.mark.parametrize("model", ["lr", "dcnv2", "lightgbm"])
def test_models_learn_from_a_vector_and_are_published_with_it(samples, tmp_path, model):
    request = TrainRequest(samples=samples, runs_folder=tmp_path / "runs", model=model, test="2026-01-03")
    settings = {"options": {"min_data_in_leaf": 20}} if model == "lightgbm" else {"trainer": QUICK}
    result = train_model(dataclasses.replace(request, **settings))
    assert result.metrics["test"]["click"]["auc"] > 0.67
    registry = f"sqlite:///{tmp_path / 'registry.db'}"
    published = publish(
        PublishRequest(
            run=result.folder,
            samples_folder=samples.parent,
            bundles_folder=tmp_path / "bundles",
            registry_url=registry,
            name="home",
            force=True,
        )
    )
    scorer = published.bundle.load_scorer()
    part = next(iter(SampleFolder(samples).read("2026-01-03", "2026-01-03")))
    assert len(scorer.score(take_rows(part.block, np.arange(9)))["click"]) == 9
    Registry(registry, tmp_path / "bundles").close()
