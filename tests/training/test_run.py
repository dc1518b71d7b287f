import dataclasses
import sys

import msgspec
import numpy as np
import pytest

from bowerbird.errors import InputError, MissingExtraError, NotFoundError
from bowerbird.plan.spec import Plan
from bowerbird.training.progress import Silent
from bowerbird.training.run import resume_training, train_model
from bowerbird.training.run_record import latest_run, list_runs, read_run
from bowerbird.training.trained import load_trained
from tests.training.conftest import SMALL, request
from tests.training.synthetic import DAYS, World, write_samples


def test_the_record_says_what_was_done(din_run, workspace):
    record = read_run(din_run.folder)
    assert record == din_run.record
    assert (record.status, record.precision, record.settings.model) == ("done", "float32", "din")
    assert record.settings.split.test.since == DAYS[-1]
    assert record.settings.options["hidden"] == [256, 128]
    assert record.steps == 20
    assert record.code.split("+")[1]
    assert record.id in [one.id for one in list_runs(workspace / "runs")]


def test_metrics_have_slices_and_intervals(din_run):
    metrics = din_run.metrics["validation"]["click"]
    assert metrics["auc_low"] < metrics["auc"] < metrics["auc_high"]
    assert set(metrics["slices"]) == {"date", "hour", "topic"}
    assert metrics["slices"]["date"][DAYS[2]]["rows"] == 600
    assert sum(one["rows"] for one in metrics["slices"]["topic"].values()) == 600


def test_a_finished_run_is_read_back_whole(din_run):
    plan = Plan.from_json((din_run.folder / "plan.json").read_bytes())
    block, *_ = World(4).draw(30)
    first = load_trained(din_run.folder, plan, din_run.record.settings).logits(block)
    second = load_trained(din_run.folder, plan, din_run.record.settings).logits(block)
    for task in ("click", "long"):
        assert np.array_equal(first[task], second[task])
        assert first[task].std() > 0.05


def test_the_same_seed_gives_the_same_model_and_another_one_another(din_run, workspace):
    again = train_model(request(workspace, "din"))
    other = train_model(request(workspace, "din", seed=1))
    assert msgspec.json.encode(again.metrics) == msgspec.json.encode(din_run.metrics)
    assert other.metrics["test"]["click"]["auc"] != din_run.metrics["test"]["click"]["auc"]


def test_fine_tuning_begins_where_the_earlier_run_ended(din_run, workspace):
    steady = {**SMALL, "epochs": 1, "learning_rate": 1e-7, "warmup_steps": 0, "average": 0.0, "weight_decay": 0.0}
    tuned = train_model(request(workspace, "lr", from_run=din_run.record.id, trainer=steady))
    assert tuned.record.settings.model == "din"
    assert tuned.record.settings.from_run == din_run.record.id
    earlier = din_run.metrics["test"]["click"]["auc"]
    assert tuned.metrics["test"]["click"]["auc"] == pytest.approx(earlier, abs=0.003)


def test_fine_tuning_needs_the_same_features_and_a_finished_network(din_run, tree_run, workspace, tmp_path):
    with pytest.raises(InputError, match="lightgbm, done"):
        train_model(request(workspace, "din", from_run=tree_run.record.id))
    with pytest.raises(NotFoundError, match="no run 'nothing'"):
        train_model(request(workspace, "din", from_run="nothing"))
    plan = Plan.from_json((din_run.folder / "plan.json").read_bytes())
    folder = write_samples(tmp_path / "other", rows_per_day=60)
    (folder / "plan.json").write_bytes(msgspec.structs.replace(plan, features=plan.features[1:]).to_json())
    wrong = dataclasses.replace(request(workspace, "din", from_run=din_run.record.id), samples=folder)
    with pytest.raises(InputError, match="features have changed"):
        train_model(wrong)


def test_samples_that_changed_stop_a_resumption(din_run, tmp_path):
    write_samples(tmp_path / "default", rows_per_day=60, seed=9)
    with pytest.raises(InputError, match="have changed"):
        resume_training(tmp_path, din_run.folder)


def test_an_unknown_model_is_named(workspace):
    with pytest.raises(InputError, match="Did you mean 'deepfm'"):
        train_model(request(workspace, "deepfn"))


@pytest.mark.parametrize("model", ["lr", "deepfm", "dcnv2", "esmm", "tabm"])
def test_every_model_learns(workspace, model):
    trainer = {**SMALL, "epochs": 4, "learning_rate": 0.02 if model == "lr" else 4e-3}
    result = train_model(request(workspace, model, trainer=trainer))
    assert result.metrics["test"]["click"]["auc"] > 0.7
    assert result.metrics["test"]["long"]["auc"] > 0.7


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_lightgbm_learns_and_says_what_it_skips(workspace):
    notes = Notes()
    result = train_model(request(workspace, "lightgbm", trainer={}, options={"min_data_in_leaf": 20}), notes)
    assert result.metrics["test"]["click"]["auc"] > 0.72
    assert "LightGBM cannot read sequences; skipped: history, searches" in notes.lines


def test_lightgbm_without_the_extra_says_how_to_get_it(workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r"bowerbird\[lightgbm\]"):
        train_model(request(workspace, "lightgbm", trainer={}))


def test_the_latest_run_is_the_newest_finished_one(tmp_path):
    with pytest.raises(NotFoundError, match="bowerbird train"):
        latest_run(tmp_path / "runs")
