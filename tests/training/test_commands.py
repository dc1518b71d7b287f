"""The commands, in a real project folder."""

import json

import pytest
from click.testing import CliRunner

from bowerbird.cli.common import console
from bowerbird.cli.compile import compile_command
from bowerbird.cli.models import models
from bowerbird.cli.profile import profile_command
from bowerbird.cli.train import parse_options, publish, train
from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import InputError, NotFoundError
from bowerbird.training.run_record import latest_run
from tests.training.synthetic import DAYS, write_samples

PROJECT = """
from bowerbird.declare import INTEGER, Entity, Event, Exposure, Label, Project

user, item = Entity("user", INTEGER), Entity("item", INTEGER)
shown = Exposure("shown", [user, item])
click = Event("click", [user, item])
project = Project("synthetic", shown, item, user, events=[click], labels=[Label("click", click, "1h")])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "project.py").write_text(PROJECT)
    write_samples(folder / "data" / "samples" / "default", rows_per_day=300)
    return folder


def run(command, project, *arguments):
    result = CliRunner().invoke(command, [*arguments, "--project", str(project)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_publish_promote_and_roll_back(project):
    small = ("trainer.precision=float32", "trainer.batch_size=128", "model.hidden=[32]")
    options = ("--epochs", "2", *(part for option in small for part in ("--option", option)))
    output = run(train, project, "--model", "din", "--test", DAYS[-1], *options)
    assert "click: AUC" in output and "test" in output
    assert "synthetic 1 is live" in run(publish, project, "--promote")
    output = run(publish, project)
    assert "synthetic 2 is candidate" in output and "passed  parity" in output
    assert "be served by torch.bf16" in output and "click: AUC" in output and "rank agreement 0.9" in output
    assert "synthetic 2 is live" in run(models, project, "promote", "synthetic", "2")
    assert "synthetic 1 is live again" in run(models, project, "rollback", "synthetic")
    shown = json.loads(run(models, project, "show", "synthetic", "1"))
    assert shown["version"]["stage"] == "live"
    assert {gate["name"] for gate in shown["gates"]} == {"parity", "pcoc.click", "pcoc.long"}
    assert "synthetic 2 is retired" in run(models, project, "retire", "synthetic", "2")
    listed = run(models, project, "list")
    assert "live" in listed and "retired" in listed


def test_a_damaged_version_is_not_promoted(project):
    run(train, project, "--model", "lr", "--epochs", "1", "--option", "trainer.precision=float32")
    run(publish, project, "--name", "other")
    file = project / "data" / "bundles" / "other" / "1" / "plan.json"
    file.write_bytes(file.read_bytes().replace(b"item", b"itex", 1))
    with pytest.raises(Exception, match=r"plan\.json is not what was published"):
        run(models, project, "promote", "other", "1")


def test_unknown_names_are_not_found(project):
    with pytest.raises(NotFoundError, match="no samples"):
        run(train, project, "--samples", "nothing")
    with pytest.raises(NotFoundError, match="no run 'nothing'"):
        run(train, project, "--resume", "nothing")


def test_options_are_read_by_section():
    parsed = parse_options(("model.hidden=[8,4]", "trainer.metric=log_loss", 'embedding.dimensions={"item":4}'))
    assert parsed == {
        "model": {"hidden": [8, 4]},
        "trainer": {"metric": "log_loss"},
        "embedding": {"dimensions": {"item": 4}},
    }
    for wrong in ("hidden=3", "model.hidden", "models.hidden=3"):
        with pytest.raises(InputError, match=r"SECTION\.NAME=VALUE"):
            parse_options((wrong,))


def test_compile_explains_and_profile_measures(project, monkeypatch):
    run(train, project, "--model", "din", "--epochs", "1", "--option", "trainer.precision=float32")
    monkeypatch.setattr(console, "width", 240)
    output = run(compile_command, project, "--explain")
    assert "DIN: a candidate takes" in output and "once per request" in output
    assert "LinearOfConcat" in output and "it follows" in output and "sequences.py:" in output
    name = latest_run(load_workspace(project).runs_folder).id
    output = run(profile_command, project, "--run", name, "--candidates", "50")
    assert "request stage" in output and "candidates" in output
