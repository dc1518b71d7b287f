"""A network and trees, averaged: trained, read back, published and scored as one model."""

from __future__ import annotations

import numpy as np
import pytest

from bowerbird.bundles.bundle import read_bundle
from bowerbird.bundles.calibrate import calibrate
from bowerbird.plan.spec import Plan
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.run import train_model
from bowerbird.training.trained import TrainedBlend, load_trained
from tests.training.conftest import request
from tests.training.synthetic import World


@pytest.fixture(scope="module")
def blend_run(workspace):
    pytest.importorskip("lightgbm")
    return train_model(request(workspace, "deepfm", trees=True))


def test_it_answers_with_the_mean_logit(blend_run):
    plan = Plan.from_json((blend_run.folder / "plan.json").read_bytes())
    trained = load_trained(blend_run.folder, plan, blend_run.record.settings)
    assert isinstance(trained, TrainedBlend)
    block = World().draw(40)[0]
    network, trees, both = trained.network.logits(block), trained.trees.logits(block), trained.logits(block)
    for task, logits in both.items():
        np.testing.assert_allclose(logits, (network[task] + trees[task]) / 2, rtol=1e-6)
        assert not np.allclose(network[task], trees[task])


def test_its_bundle_scores_as_the_run_does(blend_run, workspace, tmp_path):
    result = publish(
        PublishRequest(
            run=blend_run.folder,
            samples_folder=workspace / "samples",
            bundles_folder=tmp_path / "bundles",
            registry_url=f"sqlite:///{tmp_path / 'registry.db'}",
            name="blend",
        )
    )
    bundle = read_bundle(result.bundle.folder)
    assert bundle.manifest.kind == "blend"
    trained = load_trained(blend_run.folder, bundle.plan, blend_run.record.settings)
    block = World().draw(25)[0]
    scores = bundle.load_scorer().score(block)
    for task, logits in trained.logits(block).items():
        np.testing.assert_allclose(scores[task], calibrate(bundle.calibrations[task], logits), atol=1e-5)
