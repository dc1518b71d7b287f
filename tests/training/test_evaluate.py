"""``bowerbird evaluate`` and what it is made of, on a finished run."""

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bowerbird.bundles.calibrate import Platt, PlattByField, calibrations_from_json, calibrations_to_json
from bowerbird.cli.common import console
from bowerbird.cli.evaluate import evaluate_command
from bowerbird.errors import InputError
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.quality.evaluate import EvaluationRequest, evaluate_run
from bowerbird.training.quality.held_out import score_range
from bowerbird.training.quality.metrics import auc, measure
from bowerbird.training.quality.report import conditional_score
from bowerbird.training.run import train_model
from bowerbird.training.run_record import CALIBRATION_FILE, latest_run, read_run, write_run
from bowerbird.training.trained import load_trained
from tests.training.conftest import request
from tests.training.synthetic import DAYS, write_samples
from tests.training.test_commands import PROJECT


@pytest.fixture(scope="module")
def wanted(din_run, workspace):
    return EvaluationRequest(run=din_run.folder, samples_folder=workspace / "samples")


def test_the_test_days_are_judged_as_the_run_judged_them(wanted, din_run):
    result = evaluate_run(wanted)
    assert result.dates == DAYS[-1] and result.same_samples
    assert msgspec.json.encode(result.metrics) == msgspec.json.encode(din_run.metrics["test"])
    written = json.loads((wanted.run / result.files[0]).read_bytes())
    assert written["metrics"]["click"]["auc"] == result.metrics["click"]["auc"]
    assert set(result.reliability["click"]) == {"as trained", "calibrated"}
    assert not result.slices and not result.importance


def test_conversions_given_clicks_are_judged_on_clicks(wanted, din_run, workspace):
    result = evaluate_run(wanted)
    samples = SampleFolder(workspace / "samples" / "default")
    trained = load_trained(din_run.folder, samples.plan, din_run.record.settings)
    held = score_range(samples, DateRange(DAYS[-1], DAYS[-1]), trained)
    scores = held.scores(calibrations_from_json((din_run.folder / CALIBRATION_FILE).read_bytes()))
    clicked = held.labels["click"] == 1
    cvr = conditional_score(scores["long"][clicked], scores["click"][clicked])
    expected = measure(held.labels["long"][clicked], cvr, held.weight[clicked], held.user[clicked])
    found = result.metrics["long"]["conditional"]
    assert found["given"] == "click" and found["rows"] == clicked.sum() < result.metrics["long"]["rows"]
    assert (found["auc"], found["pcoc"]) == (expected.auc, expected.pcoc)
    assert found["auc"] > 0.55 and found["auc_low"] < found["auc"] < found["auc_high"]
    assert "conditional" not in result.metrics["click"]
    assert auc(held.labels["click"][clicked], cvr, held.weight[clicked]) != found["auc"]


def test_a_conditional_probability_is_at_most_one():
    assert conditional_score(np.array([0.1, 0.5, 0.0]), np.array([0.2, 0.4, 0.0])).tolist() == [0.5, 1.0, 0.0]


def test_importance_finds_what_the_truth_is_made_of(wanted):
    found = evaluate_run(dataclasses.replace(wanted, importance=True, plots=True, importance_rows=400))
    names = [one.feature for one in found.importance["click"]]
    assert len(names) == 9 and names.index("matches") < 3
    hour = next(one for one in found.importance["click"] if one.feature == "hour")
    assert abs(hour.auc.estimate) < 0.05
    assert found.files[1:] == [
        "curves.png",
        f"evaluation-{DAYS[-1]}.reliability.png",
        f"evaluation-{DAYS[-1]}.importance.png",
    ]
    assert all((wanted.run / name).stat().st_size > 1000 for name in found.files)


def test_trees_are_judged_too(tree_run, workspace):
    wanted = EvaluationRequest(
        run=tree_run.folder,
        samples_folder=workspace / "samples",
        dates=DateRange(DAYS[2], DAYS[3]),
        importance=True,
        slices=True,
        plots=True,
        importance_rows=300,
    )
    result = evaluate_run(wanted)
    assert result.dates == f"{DAYS[2]}:{DAYS[3]}" and "curves.png" not in result.files
    worth = {one.feature: one.log_loss.estimate for one in result.importance["click"]}
    assert worth["history"] == worth["searches"] == 0
    assert worth["matches"] > 0.01
    assert result.slices["click"].examined > 10


def test_a_calibration_by_field_is_evaluated_and_named(wanted, tmp_path, workspace):
    run = tmp_path / wanted.run.name
    run.mkdir()
    for file in wanted.run.iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    calibrations = {"click": PlattByField("topic", 1.0, 0.1, [], []), "long": Platt(1.0, 0.0)}
    (run / CALIBRATION_FILE).write_bytes(calibrations_to_json(calibrations))
    assert evaluate_run(dataclasses.replace(wanted, run=run)).calibrations == {"click": "platt:topic", "long": "platt"}


def test_other_features_and_unfinished_runs_are_refused(wanted, tmp_path):
    folder = write_samples(tmp_path / "samples" / "default", rows_per_day=60)
    plan = json.loads((folder / "plan.json").read_bytes())
    plan["features"] = plan["features"][1:]
    (folder / "plan.json").write_bytes(json.dumps(plan).encode())
    with pytest.raises(InputError, match="other features"):
        evaluate_run(dataclasses.replace(wanted, samples_folder=tmp_path / "samples"))
    write_run(tmp_path / "half", msgspec.structs.replace(read_run(wanted.run), status="training"))
    with pytest.raises(InputError, match="not finished"):
        evaluate_run(dataclasses.replace(wanted, run=tmp_path / "half"))


def test_the_command_shows_tables_and_says_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "width", 200)
    (tmp_path / "project.py").write_text(PROJECT)
    write_samples(tmp_path / "data" / "samples" / "default", rows_per_day=200)
    trainer = {"epochs": 1, "precision": "float32"}
    train_model(request(tmp_path / "data", "lr", trainer=trainer))
    arguments = ["--slices", "--importance", "--on", DAYS[-1], "--project", str(tmp_path)]
    result = CliRunner().invoke(evaluate_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for part in ("long given", "what dealing a feature out anew costs", "slices", f"evaluation-{DAYS[-1]}.json"):
        assert part in " ".join(result.output.split()), part
    folder = tmp_path / "data" / "runs" / latest_run(tmp_path / "data" / "runs").id
    assert (folder / f"evaluation-{DAYS[-1]}.json").is_file()
