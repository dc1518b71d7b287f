"""The how-tos' models train as they stand there, and the table of models is whole."""

import re
from pathlib import Path

import pytest

from bowerbird.models import MODELS
from bowerbird.samples.columns import read_declaration
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.training.run import TrainRequest, train_model
from tests.samples.ready_table import rows, write_table

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = re.findall(r"```python\n(.*?)```", (FOLDER / "own_model.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ready")
    build_from_columns(folder / "samples", "ready", read_declaration(write_table(folder, rows(600))), folder)
    return folder


@pytest.mark.parametrize(("block", "name"), [(0, "Residual"), (1, "PriceAware")])
def test_the_how_tos_models_learn_from_ready_columns(ready, block, name):
    (ready / f"how_to_{block}.py").write_text(BLOCKS[block])
    request = TrainRequest(
        samples=ready / "samples" / "ready",
        runs_folder=ready / "runs",
        model=f"how_to_{block}:{name}",
        code=ready,
        embedding={"minimum_count": 1},
        trainer={"epochs": 10, "batch_size": 64, "learning_rate": 0.02, "average": 0.9, "precision": "float32"},
    )
    result = train_model(request)
    assert result.metrics["validation"]["click"]["auc"] > 0.7


def test_the_how_to_has_a_line_for_every_model_and_option():
    text = (FOLDER / "models.md").read_text()
    for name, config in MODELS.items():
        assert len(re.findall(rf"^\| `{name}` \|", text, re.MULTILINE)) >= 1, name
        for option in config.__dataclass_fields__:
            assert f"`{option}`" in text or name == "tabm", (name, option)
