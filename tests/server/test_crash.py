import random
import shutil
import time
from pathlib import Path

import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.parity import check_parity
from bowerbird.serving.slates import iterate_slates
from tests.server.load import Event, Traffic, logged_ids
from tests.server.lossy import drop_unsynced
from tests.server.process import ServerProcess


def crash_again_and_again(workspace: Workspace, runs: int, notes: Path | None) -> int:
    """Kill servers under load; return how many events were acknowledged in all, none of them lost or doubled."""
    acknowledged: set[tuple[str, str]] = set()
    resend: list[Event] = []
    chance = random.Random(0)
    for _ in range(runs):
        server = ServerProcess(workspace, lossy_notes=notes)
        traffic = Traffic(server.address, senders=3, askers=2, resend=resend)
        traffic.wait_for_both()
        time.sleep(chance.uniform(0.0, 0.5))
        server.kill()
        traffic.stop()
        if notes is not None:
            drop_unsynced(workspace.wal_folder, notes)
            shutil.rmtree(workspace.slates_folder, ignore_errors=True)
        acknowledged |= traffic.acknowledged
        resend = list(traffic.unanswered.values())
        counts = logged_ids(workspace)
        assert not acknowledged - set(counts)
        assert max(counts.values()) == 1
    with ServerProcess(workspace) as server, server.client() as client:
        assert client.send_events(resend).rejected == 0
        for user in range(20):
            client.score("home", user, ["i1", "i2", "i3"])
    assert max(logged_ids(workspace).values()) == 1
    report = check_parity(workspace, iterate_slates(workspace.slates_folder))
    assert report.holds and report.slates >= 20, report
    return len(acknowledged)


def test_kill_loses_nothing_acknowledged_and_doubles_nothing(workspace: Workspace) -> None:
    assert crash_again_and_again(workspace, 3, None) > 0


def test_losing_power_loses_nothing_acknowledged(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert crash_again_and_again(workspace, 2, tmp_path / "notes") > 0


@pytest.mark.slow
def test_a_hundred_kills(workspace: Workspace) -> None:
    print(f"{crash_again_and_again(workspace, 100, None):,} acknowledged events, 0 lost, 0 doubled")


@pytest.mark.slow
def test_a_hundred_power_losses(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    print(f"{crash_again_and_again(workspace, 100, tmp_path / 'notes'):,} acknowledged events, 0 lost, 0 doubled")
