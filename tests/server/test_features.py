"""The catalogue and explanations over HTTP; parity as a command."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from bowerbird.cli import parity as command
from bowerbird.cli.main import run
from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.explain import explain
from bowerbird.server.web.access import KeyStore
from bowerbird.serving.slate import Slate
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess


def get(server: ServerProcess, path: str, key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(server.address + path, trust_env=False, timeout=120, headers=headers)


def test_the_catalogue(shared: ServerProcess) -> None:
    catalogue = get(shared, "/v1/features").json()
    assert len(catalogue["features"]) == 14
    assert any("No samples yet" in note for note in catalogue["missing"])
    one = get(shared, "/v1/features/clicks_1h").json()
    assert {(use["model"], use["version"]) for use in one["models"]} == {("din", 1), ("din", 2)}
    assert one["states"][0]["family"]["keys"] > 0, "the live state's size"
    problem = get(shared, "/v1/features/click_1h")
    assert problem.status_code == 404 and "clicks_1h" in problem.json()["remedy"]


def test_an_explanation(shared: ServerProcess) -> None:
    found = get(shared, "/v1/exposures/x100/explain?feature=item_rate&events=3").json()
    assert found["agrees"] and [each["feature"] for each in found["features"]] == ["item_rate"]
    missing = get(shared, "/v1/exposures/nobody/explain")
    assert missing.status_code == 404 and missing.json()["code"] == "not_found"
    assert get(shared, "/v1/exposures/x100/explain?events=many").status_code == 422
    document = get(shared, "/openapi.json").json()
    assert "/v1/exposures/{id}/explain" in document["paths"]


def test_keys_guard_them(workspace: Workspace) -> None:
    KeyStore(workspace.keys_file).create("writer", ["write"])
    with ServerProcess(workspace) as server:
        assert get(server, "/v1/features").status_code == 401
        assert get(server, "/v1/exposures/x100/explain").status_code == 401


@pytest.fixture
def served(workspace: Workspace) -> Workspace:
    with ServerProcess(workspace) as server, server.client() as client:
        _show(client)
        slate = client.score("home", 3, ["i1", "i7"], context={"page": 1})
        answer = get(server, f"/v1/exposures/{quote(slate.slate_id)}/explain?item=i7&feature=genre_matches").json()
        assert answer["agrees"] and answer["features"][0]["logged"] == answer["features"][0]["value"]
    return workspace


def _show(client: Client) -> None:
    for turn in range(4):
        slate = client.score("home", turn, ["i1", "i2"], context={"page": 1})
        exposure = {"type": "exposure", "id": f"live{turn}", "user": turn, "item": "i1", "slate_id": slate.slate_id}
        click = {"type": "click", "id": f"did{turn}", "user": turn, "item": "i1", "slate_id": slate.slate_id}
        assert client.send_events([exposure, click]).accepted == 2


def test_what_was_served_is_explained(served: Workspace) -> None:
    found = explain(served, "live2")
    assert found.agrees
    slates = list(iterate_slates(served.slates_folder))
    again = explain(served, slates[-1].slate_id, item="i7")
    assert again.agrees
    values = {each.feature: each for each in again.features}
    assert values["clicks_1h"].logged == values["clicks_1h"].value


def test_parity_is_a_command(
    served: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["parity", "--project", str(served.folder)]) == 0
    assert "Parity of 5 slates: holds" in capsys.readouterr().out
    assert run(["parity", "--slates", "2", "--json", "--project", str(served.folder)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["holds"], document["slates"]) == (True, 2)

    def tampered(*_: object) -> list[Slate]:
        slates = list(iterate_slates(served.slates_folder))
        numbers = {**slates[1].features.numbers, "item_rate": slates[1].features.numbers["item_rate"] + np.float32(1)}
        slates[1] = replace(slates[1], features=replace(slates[1].features, numbers=numbers))
        return slates

    monkeypatch.setattr(command, "slates_since", tampered)
    with pytest.raises(SystemExit) as ended:
        run(["parity", "--json", "--project", str(served.folder)])
    assert ended.value.code == 1
    document = json.loads(capsys.readouterr().out)
    assert document["examples"][0]["feature"] == "item_rate" and not document["holds"]
    assert document["examples"][0]["logged"] != document["examples"][0]["replayed"]
