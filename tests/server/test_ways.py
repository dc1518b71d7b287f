"""A served version: by the fastest way, by the one that is set, past one that fails; and parity after each."""

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bowerbird.cli.main import run as run_command
from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.monitoring.parity import ParityReport, check_parity
from bowerbird.serving.slate import Slate
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess
from tests.server.tiny import make_live, make_workspace, publish

WAYS = ("torch.bf16", "native.fp32", "native.bf16", "native.int8")
ITEMS = [f"i{number}" for number in range(60)]
BROKEN = '''
import bowerbird.bundles.bundle as bundle

load = bundle.Bundle.load_scorer


def fail(self, way="", *more):
    if way == "{way}":
        raise RuntimeError("no such instruction")
    return load(self, way, *more)


bundle.Bundle.load_scorer = fail
'''


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with three versions: two whose gates allow several ways, one that has the plain one alone."""
    workspace = make_workspace(tmp_path_factory.mktemp("ways") / "tiny")
    publish(workspace, 1, ways=WAYS)
    publish(workspace, 2, slope=2.0, ways=WAYS)
    publish(workspace, 3)
    return workspace


@pytest.fixture
def workspace(several: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(several.folder, tmp_path / "tiny")
    copied = load_workspace(tmp_path / "tiny")
    make_live(copied, 1)
    yield copied


def set_way(workspace: Workspace, text: str) -> None:
    (workspace.folder / "bowerbird.toml").write_text(f"[server]\nway = {text}\n")


def metrics_of(server: ServerProcess) -> str:
    return httpx.get(f"{server.address}/metrics", trust_env=False).text


def items_made(server: ServerProcess) -> float:
    (found,) = re.findall(r'^bowerbird_items_made{model="din".*} (\S+)$', metrics_of(server), re.MULTILINE)
    return float(found)


def ask(client: Client, times: int = 4) -> None:
    """Ask for several users and sizes, so that items come in other company each time."""
    for turn in range(times):
        client.score("home", turn, ITEMS[turn : turn + 7 * (turn + 1)], context={"page": turn})
        client.recommend("home", turn)


def slates_of(workspace: Workspace) -> list[Slate]:
    return list(iterate_slates(workspace.slates_folder))


def parity_of(workspace: Workspace) -> ParityReport:
    report = check_parity(workspace, slates_of(workspace))
    assert report.holds, report
    return report


def test_the_fastest_way_answers_is_seen_everywhere_and_is_remembered(workspace: Workspace) -> None:
    with ServerProcess(workspace) as server, server.client() as client:
        served = client.version("din", 1).served
        assert served["why"] == "fastest"
        assert {each["way"] for each in served["timings"]} == {"torch.fp32", *WAYS}
        assert client.version("din", 2).served is None
        ask(client)
        metrics = metrics_of(server)
        assert f'bowerbird_way{{model="din",way="{served["way"]}",why="fastest"}} 1.0' in metrics
        assert 'bowerbird_way_seconds_per_candidate{model="din",way="native.fp32"}' in metrics
        assert 'bowerbird_items_made{model="din"}' in metrics
    assert {slate.way for slate in slates_of(workspace)} == {served["way"]}
    written = {note: note.stat().st_mtime_ns for note in workspace.ways_folder.iterdir()}
    with ServerProcess(workspace) as server, server.client() as client:
        assert client.version("din", 1).served == served
        assert client.promote("din", 2).served == served, "it has other weights alone"
    assert {note: note.stat().st_mtime_ns for note in written} == written
    (found,) = parity_of(workspace).ways
    assert (found.way, found.again) == (served["way"], served["way"])


def test_a_version_that_takes_over_has_made_the_items_of_the_last_requests(workspace: Workspace) -> None:
    set_way(workspace, '"native.fp32"')
    with ServerProcess(workspace) as server, server.client() as client:
        ask(client)
        client.promote("din", 2)
        made = items_made(server)
        ask(client)
        assert items_made(server) == made > 0


@pytest.mark.parametrize("way", ["torch.fp32", "torch.bf16", "native.bf16", "native.int8"])
def test_a_set_way_is_served_swapped_and_kept_in_parity(workspace: Workspace, way: str) -> None:
    set_way(workspace, f'"{way}"')
    with ServerProcess(workspace) as server, server.client() as client:
        ask(client)
        assert client.promote("din", 2).served["why"] == "pinned"
        ask(client)
    assert {(slate.version, slate.way) for slate in slates_of(workspace)} == {(1, way), (2, way)}
    report = parity_of(workspace)
    assert [(each.way, each.again) for each in report.ways] == [(way, way)] * 2
    assert all(each.allowed == (1e-5 if way.endswith("fp32") else 0.0) for each in report.ways)
    assert not workspace.ways_folder.exists()


def test_another_host_promises_what_the_gates_measured(workspace: Workspace) -> None:
    set_way(workspace, '{ din = "native.int8" }')
    with ServerProcess(workspace) as server, server.client() as client:
        ask(client)
    elsewhere = [dataclasses.replace(slate, host="another") for slate in slates_of(workspace)]
    (found,) = check_parity(workspace, elsewhere).ways
    assert found.allowed == pytest.approx(0.04)
    unknown = [dataclasses.replace(slate, way="tpu.int4") for slate in slates_of(workspace)]
    (found,) = check_parity(workspace, unknown).ways
    assert (found.way, found.again) == ("tpu.int4", "torch.fp32")


def test_a_version_that_has_not_got_the_set_way_is_refused_and_the_former_goes_on(workspace: Workspace) -> None:
    set_way(workspace, '"native.int8"')
    with ServerProcess(workspace) as server, server.client() as client:
        with pytest.raises(Exception, match=r"din 3 may not be served by native.int8"):
            client.promote("din", 3)
        assert client.score("home", 1, ["i1"]).model.version == 1


@pytest.mark.parametrize(("way", "message"), [("native.in8", "native.int8"), ("native.fp16", "native.bf16")])
def test_a_way_that_does_not_exist_keeps_the_server_from_starting(
    workspace: Workspace, way: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_way(workspace, f'"{way}"')
    assert run_command(["serve", "--project", str(workspace.folder), "--port", "0"]) == 1
    assert f"Did you mean '{message}'" in capsys.readouterr().err


def test_a_way_that_fails_here_gives_way_to_the_next(workspace: Workspace, tmp_path: Path) -> None:
    """The start after a change of the machine: what was chosen does not load any more."""
    with ServerProcess(workspace) as server, server.client() as client:
        best = client.version("din", 1).served["way"]
        ask(client)
    (tmp_path / "broken" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN.format(way=best))
    with ServerProcess(workspace, first=tmp_path / "broken") as server, server.client() as client:
        served = client.version("din", 1).served
        assert served["why"] == "fallback" and served["way"] != best
        assert served["refused"][-1]["way"] == best
        assert f"din 1 is not served by {best}: no such instruction" in server.log
        ask(client)
        assert f'bowerbird_way_refused{{model="din",way="{best}"}} 1.0' in metrics_of(server)
    assert {slate.way for slate in slates_of(workspace)} == {best, served["way"]}
    assert {each.way for each in parity_of(workspace).ways} == {best, served["way"]}


def test_profile_shows_a_requests_parts_and_what_each_way_takes(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowerbird.cli.profile.console.width", 160)
    assert run_command(["profile", "--candidates", "20", "--project", str(workspace.folder)]) == 0
    shown = capsys.readouterr().out
    parts = ("read the body", "features", "request stage", "candidates", "calibration", "slate", "write the answer")
    assert all(part in shown for part in (*parts, "torch.fp32", *WAYS, "(fastest)")), shown
    assert not workspace.slates_folder.exists()
    assert run_command(["models", "show", "din", "1", "--project", str(workspace.folder)]) == 0
    assert '"why": "fastest"' in capsys.readouterr().out
    assert run_command(["profile", "nobody", "--project", str(workspace.folder)]) == 1
    assert "No version of nobody is live" in capsys.readouterr().err
