"""A user's own model: by import path, pinned to its source, kept with its run, shipped as a graph."""

import hashlib
import shutil

import numpy as np
import pytest

from bowerbird.errors import InputError
from bowerbird.models.own import label_of, pinned_name
from bowerbird.models.zoo import model_config
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.quality.held_out import read_range
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.trained import load_trained
from tests.training.conftest import SMALL
from tests.training.synthetic import write_samples

SOURCE = '''
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bowerbird.models import Ranker
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import MLP, TaskHeads
from bowerbird.models.sequences import mean_histories


class Residual(Ranker):
    """An MLP whose layers add to what they are given."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        dimension: int = 8
        width: int = 32
        layers: int = 2

        def build(self, inputs, tasks):
            return Residual(inputs, tasks, self)

    def __init__(self, inputs, tasks, config):
        super().__init__(inputs, tasks)
        self.flat = FlatInputs(inputs, mean_histories(inputs), config.dimension)
        self.first = MLP(self.flat.width, (config.width,), dropout=0.1)
        self.layers = nn.ModuleList(MLP(config.width, (config.width,), dropout=0.1) for _ in range(config.layers))
        self.heads = TaskHeads(config.width, tasks)

    def forward(self, features):
        hidden = self.first(self.flat(features))
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.heads(hidden)
'''


def write(folder, source=SOURCE, name="residual.py"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(source)
    return folder


@pytest.fixture
def code(tmp_path):
    return write(tmp_path / "code")


def test_a_path_is_pinned_to_the_hash_of_its_source(code):
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert pinned_name("residual:Residual", code) == f"residual:Residual@{digest}"
    assert pinned_name("dcnv2", code) == "dcnv2"
    config = model_config("residual:Residual", {"layers": 3}, code)
    assert (config.dimension, config.layers) == (8, 3)
    assert label_of(f"residual:Residual@{digest}") == "Residual" and label_of("din") == "din"


def test_two_versions_of_a_source_live_side_by_side(code):
    old = pinned_name("residual:Residual", code)
    write(code, SOURCE.replace("layers: int = 2", "layers: int = 5"))
    assert model_config(old).layers == 2
    assert model_config("residual:Residual", folder=code).layers == 5
    with pytest.raises(InputError, match="has changed"):
        model_config(f"residual:Residual@{'0' * 64}", folder=code)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("residul:Residual", {}, "The module 'residul' is not there"),
        ("residual:Residul", {}, "Did you mean 'Residual'"),
        ("residual:MLP", {}, "is not a model"),
        ("residual:Ranker", {}, "has no Config"),
        ("residual:Residual", {"layer": 3}, "no option 'layer'. Did you mean 'layers'"),
        ("residual:Residual", {"layers": "many"}, "wrong value"),
        ("residual:", {}, "Write `module:name`"),
    ],
)
def test_what_is_wrong_is_named(code, name, values, message):
    with pytest.raises(InputError, match=message):
        model_config(name, values, code)


@pytest.mark.parametrize("missing", ["        dimension: int = 8\n", "        def build(self, inputs, tasks):\n"])
def test_a_config_needs_a_width_and_a_way_to_build(code, missing):
    write(code, SOURCE.replace(missing, "        def make(self, inputs, tasks):\n" if "def" in missing else ""))
    with pytest.raises(InputError, match="lacks `dimension` or `build`"):
        model_config("residual:Residual", folder=code)


def test_an_own_model_is_trained_read_back_and_shipped_as_a_graph(code, tmp_path):
    samples = write_samples(tmp_path / "samples" / "default", rows_per_day=300)
    request = TrainRequest(
        samples=samples,
        runs_folder=tmp_path / "runs",
        model="residual:Residual",
        options={"width": 16},
        trainer=SMALL,
        code=code,
    )
    result = train_model(request)
    settings = result.record.settings
    assert settings.model == pinned_name("residual:Residual", code)
    assert settings.options == {"dimension": 8, "width": 16, "layers": 2}
    assert (result.folder / "models" / "residual.py").read_text() == SOURCE
    assert result.metrics["validation"]["click"]["auc"] > 0.6
    shutil.rmtree(code)
    dataset = SampleFolder(samples)
    trained = load_trained(result.folder, dataset.plan, settings)
    again = train_model(TrainRequest(samples=samples, runs_folder=tmp_path / "runs", from_run=result.record.id))
    assert again.record.settings.model == settings.model
    files = trained.bundle_files()
    assert not any(b"class Residual" in data for data in files.values() if isinstance(data, bytes))
    block = next(iter(read_range(dataset, settings.split.validation))).block
    published = trained.as_published(files).logits(block)
    for task, logits in trained.logits(block).items():
        assert np.allclose(published[task], logits, atol=1e-5)
