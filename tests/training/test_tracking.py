"""A finished run in MLflow, in a store on this machine."""

import sys

import msgspec
import pytest

from bowerbird.errors import MissingExtraError, StorageError
from bowerbird.training.curve import read_curve
from bowerbird.training.tracking import RUN_TAG, Tracking, track, tracking_of


@pytest.fixture(autouse=True)
def no_mlflow_in_the_environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def mlflow():
    pytest.importorskip("alembic")
    return pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def tracking(mlflow, tmp_path_factory):
    return Tracking(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}", "synthetic")


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_sent_whole_and_once(mlflow, tracking, din_run):
    identifier = track(din_run.folder, tracking)
    client = mlflow.MlflowClient(tracking_uri=tracking.address)
    run = client.get_run(identifier)
    settings = din_run.record.settings
    assert run.data.tags[RUN_TAG] == din_run.record.id and run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0" and run.data.params["model"] == "din"
    assert run.data.params["samples_sha256"] == settings.samples_sha256
    assert run.data.params["trainer.batch_size"] == "128" and run.data.params["split.test.since"] == "2026-01-04"
    metrics = din_run.metrics["test"]["long"]
    assert run.data.metrics["test.long.auc"] == metrics["auc"]
    assert run.data.metrics["test.long.given_click.pcoc"] == metrics["conditional"]["pcoc"]
    history = client.get_metric_history(identifier, "curve.click.auc")
    expected = [(one.step, one.metrics["click"]["auc"]) for one in read_curve(din_run.folder)]
    assert [(one.step, one.value) for one in history] == expected
    sent = {file.path for file in client.list_artifacts(identifier)}
    assert {"run.json", "metrics.json", "calibration.json", "plan.json", "curve.jsonl"} <= sent
    assert not any(name.endswith(".safetensors") for name in sent)
    assert track(din_run.folder, tracking) == identifier


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_refuses_is_named_and_the_run_is_whole(mlflow, din_run, tmp_path):
    (tmp_path / "file").write_text("not a database, but long enough to be read as one" * 40)
    before = (din_run.folder / "run.json").read_bytes()
    with pytest.raises(StorageError, match=r"could not be sent to MLflow at sqlite.*not a database.*--track"):
        track(din_run.folder, Tracking(f"sqlite:///{tmp_path / 'file'}", "synthetic"))
    assert (din_run.folder / "run.json").read_bytes() == before


def test_without_an_address_nothing_is_sent_nor_imported():
    assert tracking_of("", "project") is None


def test_the_environment_comes_first(monkeypatch):
    assert tracking_of("sqlite:///a.db", "project") == Tracking("sqlite:///a.db", "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    assert tracking_of("sqlite:///a.db", "project") == Tracking("http://elsewhere:5000", "other")


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch, din_run):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"bowerbird\[mlflow\]"):
        track(din_run.folder, Tracking("sqlite:///a.db", "project"))


def test_records_say_which_packages(din_run):
    from bowerbird.training.code_version import package_versions

    versions = package_versions()
    assert versions["python"].startswith("3.") and {"torch", "numpy"} <= versions.keys()
    assert msgspec.json.decode((din_run.folder / "run.json").read_bytes())["packages"] in ({}, versions)
