import time
from typing import Any

import httpx
import pytest

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.monitoring.parity import check_parity
from bowerbird.plan.compiler import compile_plan
from bowerbird.recall.plan import recall_plan
from bowerbird.samples.build import build_samples
from bowerbird.serving.shared_state import open_shared_reader
from bowerbird.serving.slates import iterate_slates
from tests.server.load import Traffic
from tests.server.process import ServerProcess


def state_of(server: ServerProcess) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{server.address}/v1/state").raise_for_status().json()
    return answer


def clicks(first: int, count: int, bot: bool = False) -> list[dict[str, Any]]:
    users = range(first, first + count)
    return [
        {"type": "click", "id": f"c-{n}", "user": 1_000 + n if bot else n % 20, "item": f"i{n % 60}"} for n in users
    ]


def set_state(workspace: Workspace, text: str) -> Workspace:
    (workspace.folder / "bowerbird.toml").write_text(f"[state]\n{text}\n")
    return load_workspace(workspace.folder)


def test_the_first_start_takes_the_state_that_samples_left(workspace: Workspace) -> None:
    build_samples(workspace, beside=recall_plan(workspace.project).plan)
    with ServerProcess(workspace) as server, server.client() as client:
        report = state_of(server)
        assert (report["recovered_groups"], report["recovered_records"]) == (1, 0)
        client.send_events(clicks(0, 50))
        for user in range(10):
            client.score("home", user, ["i1", "i2", "i3"])
        assert client.recommend("home", 1).items
    assert check_parity(workspace, iterate_slates(workspace.slates_folder)).holds


def test_a_killed_server_starts_from_snapshot_and_tail(workspace: Workspace) -> None:
    workspace = set_state(workspace, "snapshot_events = 50")
    with ServerProcess(workspace) as server:
        traffic = Traffic(server.address, senders=2, askers=1)
        traffic.wait_for_both()
        deadline = time.monotonic() + 20
        while len(list(workspace.state_folder.rglob("*.snapshot"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        server.kill()
        traffic.stop()
    with ServerProcess(workspace) as server, server.client() as client:
        report = state_of(server)
        assert report["recovered_groups"] == 1
        assert report["recovered_records"] < report["lsn"] // 2
        assert report["snapshots_skipped"] == report["snapshots_failed"] == 0
        for user in range(20):
            client.score("home", user, ["i1", "i2", "i3"])
        metrics = httpx.get(f"{server.address}/metrics").text
        for name in ("state_bytes", "snapshot_age_seconds", "recovery_seconds", "state_refused", "state_expired"):
            assert f"bowerbird_{name} " in metrics
    assert check_parity(workspace, iterate_slates(workspace.slates_folder)).holds


def test_a_bot_with_new_keys_does_not_bring_the_server_down(workspace: Workspace) -> None:
    workspace = set_state(workspace, 'memory = "2MB"')
    with ServerProcess(workspace) as server, server.client() as client:
        for first in range(0, 20_000, 1_000):
            assert client.send_events(clicks(first, 1_000, bot=True)).accepted == 1_000
        report = state_of(server)
        assert report["bytes"] <= report["budget"] == 2 << 20
        assert report["refused"] > 0
        assert len(client.score("home", 1, ["i1", "i2"]).ranking) == 2
        time.sleep(1.5)
    assert "feature state is full" in server.log


def test_another_process_reads_the_server_s_state(workspace: Workspace) -> None:
    workspace = set_state(workspace, f'shared = "{workspace.folder}/memory"')
    plan = compile_plan(workspace.project)
    with ServerProcess(workspace) as server, server.client() as client:
        reader = open_shared_reader(workspace, plan)
        client.send_events(clicks(0, 5))
        block = reader.read(int(time.time() * 1e6), 1, {}, reader.encoder.encode_items(["i1"]))
        assert block.lsn == state_of(server)["lsn"]
        assert block.numbers["clicks_1h"][0] == 1
    assert list((workspace.folder / "memory").iterdir()) == []


@pytest.mark.slow
def test_a_million_keys_from_one_bot(workspace: Workspace) -> None:
    workspace = set_state(workspace, 'memory = "64MB"\nfull = "expire"')
    with ServerProcess(workspace) as server, server.client() as client:
        for first in range(0, 1_000_000, 10_000):
            assert client.send_events(clicks(first, 10_000, bot=True)).accepted == 10_000
        report = state_of(server)
        print(report)
        assert report["bytes"] <= 64 << 20
        assert client.entity("user", 1_000 + 999_999).features["clicks_1h"] == 1
