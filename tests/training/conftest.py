import numpy as np
import pytest
import torch

from bowerbird.training.run import TrainRequest, train_model
from tests.training.synthetic import DAYS, write_samples

SMALL = {"epochs": 2, "batch_size": 128, "precision": "float32", "warmup_steps": 10}


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder with sample dataset ``default`` and finished runs of DIN and LightGBM."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("workspace")
    write_samples(folder / "samples" / "default")
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def din_run(workspace):
    """A finished DIN run with a test day."""
    return train_model(request(workspace, "din"))


@pytest.fixture(scope="session")
def tree_run(workspace):
    """A finished LightGBM run with a test day."""
    pytest.importorskip("lightgbm")
    return train_model(request(workspace, "lightgbm", trainer={}, options={"min_data_in_leaf": 20}))


def request(workspace, model, **changes):
    values = {
        "samples": workspace / "samples" / "default",
        "runs_folder": workspace / "runs",
        "model": model,
        "test": DAYS[-1],
        "trainer": SMALL,
        **changes,
    }
    return TrainRequest(**values)


@pytest.fixture
def random():
    return np.random.default_rng(7)
