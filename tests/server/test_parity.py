import threading
import time

import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.parity import check_parity
from bowerbird.serving.slates import iterate_slates
from tests.server.load import Traffic
from tests.server.process import ServerProcess


def serve_and_compare(workspace: Workspace, requests: int, askers: int, senders: int) -> None:
    with ServerProcess(workspace) as server:
        traffic = Traffic(server.address, senders=senders, askers=askers)
        while traffic.scores < requests and not traffic.failures:
            time.sleep(0.05)
        traffic.stop()
        assert not traffic.failures
    slates = list(iterate_slates(workspace.slates_folder))
    assert len(slates) == traffic.scores
    assert len({slate.lsn for slate in slates}) > 10
    report = check_parity(workspace, slates)
    print(report)
    assert report.unknown == 0
    assert report.equal_values == report.values, report.examples
    assert report.scores_within_tolerance == report.scores > 0, report.largest_score_difference


def test_what_was_served_is_what_replay_gives(workspace: Workspace) -> None:
    serve_and_compare(workspace, 300, askers=4, senders=2)


@pytest.mark.slow
def test_parity_of_five_thousand_requests(workspace: Workspace) -> None:
    serve_and_compare(workspace, 5_000, askers=8, senders=4)


def test_a_changing_version_keeps_parity_and_fails_no_request(workspace: Workspace) -> None:
    with ServerProcess(workspace) as server, server.client() as client:
        traffic = Traffic(server.address, senders=2, askers=3)
        for turn in range(4):
            time.sleep(0.3)
            wanted = 2 - turn % 2
            assert client.promote("din", wanted).serving is True
            assert client.score("home", 1, ["i1"]).model.version == wanted
        traffic.stop()
        assert not traffic.failures
    slates = list(iterate_slates(workspace.slates_folder))
    assert {slate.version for slate in slates} == {1, 2}
    assert check_parity(workspace, slates).holds


def test_another_process_promotes_and_the_server_follows(workspace: Workspace) -> None:
    from tests.server.tiny import make_live

    with ServerProcess(workspace) as server, server.client() as client:
        threading.Timer(0.1, make_live, (workspace, 2)).start()
        deadline = time.monotonic() + 20
        while client.score("home", 1, ["i1"]).model.version != 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
