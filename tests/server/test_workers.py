"""Several processes behind one port: what one writes all see, and a killed one costs its own connections alone."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx
import pytest

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import UnavailableError
from bowerbird.server.run import run_server
from tests.server.load import logged_ids
from tests.server.process import ServerProcess

SCORE = "/v1/scenes/home/score"
BODY = {"user": 1, "candidates": ["i1", "i2"]}


def workers_of(server: ServerProcess) -> list[int]:
    """Return the process ids of a server's workers, oldest first."""
    pid = server.process.pid
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory_folders(server: ServerProcess) -> set[Path]:
    """Return where a server's workers share state, and where they meet."""
    workers = [Path(f"/proc/{pid}") for pid in workers_of(server)]
    mapped = [path for each in workers for path in re.findall(r"/dev/shm/bowerbird-\S+", (each / "maps").read_text())]
    sockets = {str(descriptor.readlink()) for each in workers for descriptor in (each / "fd").iterdir()}
    bound = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    listening = [each[7] for each in bound if len(each) > 7 and f"socket:[{each[6]}]" in sockets]
    return {Path(path).parent for path in [*mapped, *listening]}


def wait_until_again(server: ServerProcess, number: int) -> None:
    wait_until_said(server, f"worker {number} answers again")


def wait_until_said(server: ServerProcess, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


class Asking:
    """Threads that ask for scores, each time on a connection of its own kind, and count what fails."""

    def __init__(self, server: ServerProcess, threads: int) -> None:
        self.answered = 0
        self.failed = 0
        self._server = server
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.address, trust_env=False, timeout=30) as client:
            while not self._stopping.is_set():
                try:
                    assert client.post(SCORE, json=BODY).status_code == 200
                    self.answered += 1
                except httpx.HTTPError:
                    self.failed += 1


def test_workers_answer_as_one_and_survive_the_loss_of_any(workspace: Workspace) -> None:
    with ServerProcess(workspace, "--workers", "2") as server:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(httpx.Client(base_url=server.address, trust_env=False, timeout=30))
                for _ in range(4)
            ]
            _what_one_takes_all_see(clients)
            _metrics_are_joined(clients[0])
            for number, client in zip((2, 1, 2, 1, 2, 1, 2, 2), clients * 2, strict=True):
                assert client.post(f"/v1/models/din/versions/{number}/promote").status_code == 200
                versions = [each.post(SCORE, json=BODY).json()["model"]["version"] for each in clients]
                assert versions == [number] * 4
        with pytest.raises(UnavailableError, match="written by process"):
            run_server(workspace, "127.0.0.1", 0)
        _killing_a_reader_costs_its_requests_alone(server)
        _killing_the_writer_stops_no_answer(server, workspace)
        folders = memory_folders(server)
        assert len(folders) == 2 and all(folder.is_dir() for folder in folders)
        assert server.stop() == 0
    assert not any(folder.exists() for folder in folders)


def _what_one_takes_all_see(clients: list[httpx.Client]) -> None:
    for number, client in enumerate(clients):
        event = {"type": "click", "id": f"w{number}", "user": 1, "item": f"fresh{number}"}
        assert client.post("/v1/events", json=event).json()["accepted"] == 1
        assert client.post("/v1/events", json=event).json()["duplicate"] == 1
        positions = {each.post(SCORE, json=BODY).json()["lsn"] for each in clients}
        assert len(positions) == 1
    for wrong in ({"type": "click", "user": "?", "item": "i1"}, {"type": "click", "user": 10**40, "item": "i1"}):
        assert {client.post("/v1/events", json=wrong).status_code for client in clients} == {422}
    assert len({client.get("/v1/state").json()["lsn"] for client in clients}) == 1
    time.sleep(0.2)  # news of items travels beside answers
    _all_know_the_newest_item(clients)


def _all_know_the_newest_item(clients: list[httpx.Client]) -> None:
    for client in clients:
        last = client.get("/v1/entities/user/1").json()["features"]["history"][-1]
        assert last["item"] == "fresh3"


def _metrics_are_joined(client: httpx.Client) -> None:
    time.sleep(1.1)
    text = client.get("/metrics").text
    answered = re.findall(r'bowerbird_requests_total\{worker="(\d)",route="/v1/events",status="200"\} (\d+)', text)
    assert sum(int(count) for _, count in answered) == 8
    assert {worker for worker, _ in answered} == {"0", "1"}
    assert text.count("# TYPE bowerbird_requests_total") == 1


def _killing_a_reader_costs_its_requests_alone(server: ServerProcess) -> None:
    asking = Asking(server, 4)
    time.sleep(0.5)
    os.kill(max(workers_of(server)), signal.SIGKILL)
    wait_until_again(server, 1)
    asking.stop()
    assert asking.answered > 5
    assert asking.failed <= 8
    with ExitStack() as stack:
        new = [httpx.Client(base_url=server.address, trust_env=False, timeout=30) for _ in range(4)]
        _all_know_the_newest_item([stack.enter_context(client) for client in new])


def _killing_the_writer_stops_no_answer(server: ServerProcess, workspace: Workspace) -> None:
    acknowledged = []
    writer = min(workers_of(server))
    asking = Asking(server, 2)
    os.kill(writer, signal.SIGKILL)
    deadline = time.monotonic() + 60
    number = 0
    while len(acknowledged) < 5:
        assert time.monotonic() < deadline, server.log
        number += 1
        event = {"type": "click", "id": f"k{number}", "user": 2, "item": "i1"}
        try:
            answer = httpx.post(server.address + "/v1/events", json=event, trust_env=False, timeout=30)
        except httpx.HTTPError:
            continue
        assert answer.status_code in (200, 503)
        if answer.status_code == 200:
            acknowledged.append(("click", f"k{number}"))
        else:
            assert answer.headers["retry-after"]
            time.sleep(0.05)
    wait_until_again(server, 0)
    asking.stop()
    assert asking.failed <= 4
    with server.client() as client:
        assert client.score("home", 2, ["i1"]).lsn >= 5
    counts = logged_ids(workspace)
    assert all(counts[name] == 1 for name in acknowledged)


def test_a_reader_that_starts_again_waits_for_the_writer(workspace: Workspace) -> None:
    with ServerProcess(workspace, "--workers", "2") as server:
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
        wait_until_again(server, 0)
        wait_until_again(server, 1)
        assert "could not start" not in server.log
        assert httpx.post(server.address + SCORE, json=BODY, trust_env=False).status_code == 200
        assert server.stop() == 0


def test_a_worker_that_was_started_again_gets_connections_that_clients_keep(workspace: Workspace) -> None:
    with ServerProcess(workspace, "--workers", "2") as server:
        os.kill(max(workers_of(server)), signal.SIGKILL)
        wait_until_said(server, "has ended; it is started again")
        with ExitStack() as stack:
            kept = [stack.enter_context(KeptConnection(server.port)) for _ in range(6)]
            wait_until_again(server, 1)
            deadline = time.monotonic() + 60
            while _answered_by(server, 1) < 20:
                assert time.monotonic() < deadline, server.log
                time.sleep(0.5)
        assert [each.failure for each in kept] == [None] * 6


class KeptConnection:
    """Asks for scores over one connection while the block lasts; ``failure`` is what ended it before."""

    def __init__(self, port: int) -> None:
        self.failure: Exception | None = None
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> KeptConnection:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
            connection.connect()
            connection.auto_open = 0  # it is not opened again
            try:
                while not self._stopping.is_set():
                    connection.request("POST", SCORE, json.dumps(BODY))
                    assert connection.getresponse().read()
            except (OSError, HTTPException) as error:
                self.failure = error


def _answered_by(server: ServerProcess, worker: int) -> int:
    text = httpx.get(server.address + "/metrics", trust_env=False).text
    found = re.search(rf'requests_total{{worker="{worker}",route="[^"]*/score",status="200"}} (\d+)', text)
    return int(found[1]) if found else 0


def test_a_start_that_fails_says_why(workspace: Workspace, template: Workspace) -> None:
    file = workspace.bundles_folder / "din" / "1" / "golden.json"
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    with pytest.raises(AssertionError, match=r"golden\.json is not what was published"):
        ServerProcess(workspace, "--workers", "2")


def test_the_client_needs_to_know_nothing(workspace: Workspace) -> None:
    (workspace.folder / "bowerbird.toml").write_text("[server]\nworkers = 3\nthreads = 1\n")
    with ServerProcess(workspace) as server, Client(server.address) as client:
        assert len(workers_of(server)) == 3
        assert client.ready()
        slate = client.recommend("home", 3)
        assert slate.items
