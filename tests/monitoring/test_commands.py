"""The commands: what they print, their JSON, their exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bowerbird.cli.common import console
from bowerbird.cli.main import run
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.monitoring import explain as explaining
from bowerbird.samples.build import build_samples
from tests.server import tiny


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = tiny.make_workspace(tmp_path_factory.mktemp("commands") / "tiny", rows=120)
    tiny.publish(workspace, 1)
    return workspace


@pytest.fixture
def folder(template: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(console, "width", 200)
    shutil.copytree(template.folder, tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_catalogue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["features", "--project", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "No samples yet" in text and "din 1" in text and "genre_matches" in text
    build_samples(load_workspace(folder))
    assert run(["features", "clicks_1h", "--cost", "--project", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "count of click by user, last 1h" in text and "an event" in text
    assert run(["features", "--json", "--project", str(folder)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["features"]) == 14 and document["features"][0]["cost"]["event_us"] >= 0
    assert run(["features", "click_1h", "--project", str(folder)]) == 1
    assert "Did you mean 'clicks_1h'" in capsys.readouterr().err


def test_an_explanation(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["explain", "x100", "history", "--project", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Replay and the events behind agree" in text and "events, oldest first" in text and "LSN" in text
    assert run(["explain", "x100", "--project", str(folder)]) == 0
    assert "genre_matches" in capsys.readouterr().out
    assert run(["explain", "x100", "history", "--json", "--project", str(folder)]) == 0
    (feature,) = json.loads(capsys.readouterr().out)["features"]
    assert feature["agrees"] and feature["tree"]["state"]["kind"] == "sequence"
    monkeypatch.setattr(explaining, "same_bits", lambda *_: False)
    with pytest.raises(SystemExit) as ended:
        run(["explain", "x100", "item_rate", "--project", str(folder)])
    assert ended.value.code == 1
    assert "DO NOT AGREE" in capsys.readouterr().out


def test_parity_of_nothing_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["parity", "--project", str(folder)]) == 0
    assert "Parity of 0 slates: holds" in capsys.readouterr().out
