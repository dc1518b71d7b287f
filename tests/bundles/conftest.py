import numpy as np
import pytest
import torch

from bowerbird.bundles.calibrate import Identity, Platt, calibrate
from bowerbird.bundles.golden import golden_request
from bowerbird.bundles.manifest import Lineage, Manifest
from bowerbird.bundles.write import BundleParts, torch_files, write_bundle
from bowerbird.embedding import EmbeddingCollection
from bowerbird.models import model_config
from tests.training.synthetic import TASKS, World, keys, synthetic_plan


@pytest.fixture(scope="session")
def make_bundle():
    """A function that writes an untrained DIN bundle to a folder."""
    torch.manual_seed(0)
    plan = synthetic_plan()
    collection = EmbeddingCollection.Config(minimum_count=1).build(plan)
    collection.admit({"item": (keys(np.arange(40) + 10_000), np.ones(40, np.int64))})
    model = model_config("din").build(collection.inputs, TASKS).eval()
    files = torch_files(collection, model)
    calibrations = {"click": Identity(), "long": Platt(1.2, -0.3)}
    block, *_ = World().draw(9)
    with torch.inference_mode():
        logits = {task: values.numpy() for task, values in model(collection(block)).items()}
    scores = {task: calibrate(calibrations[task], values) for task, values in logits.items()}
    parts = BundleParts(plan, calibrations, {"validation": {}}, [golden_request(block, scores)])
    manifest = Manifest(
        name="home",
        version=1,
        kind="torch",
        model="din",
        plan_fingerprint=plan.fingerprint,
        tasks=list(TASKS),
        lineage=Lineage("run", "default", "0" * 64, plan.fingerprint, "0"),
        created="2026-01-01T00:00:00+00:00",
        embedding={"minimum_count": 1},
    )
    return lambda folder: write_bundle(folder, manifest, parts, files)
