"""A real server under more load than it can take, and clients that misbehave."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bowerbird.declare.workspace import Workspace, load_workspace
from tests.server.process import ServerProcess
from tests.server.tiny import make_live, publish

SCORE = "/v1/scenes/home/score"
SETTINGS = """
[server]
threads = 2
connections = 40
idle_seconds = 3
header_seconds = 1.0
body_seconds = 2.0
body_limit = 1_000_000
body_memory = "1MB"
"""
LADDER = 'degrade=[bb.FewerCandidates(10), bb.CheaperModel("lr"), bb.Popularity()], deadline="300ms", slate_size=6,'


@pytest.fixture(scope="module")
def server(template: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose scene has a ladder."""
    folder = tmp_path_factory.mktemp("load") / "tiny"
    shutil.copytree(template.folder, folder)
    project = folder / "project.py"
    project.write_text(project.read_text().replace("slate_size=6,", LADDER))
    (folder / "bowerbird.toml").write_text(SETTINGS)
    workspace = load_workspace(folder)
    publish(workspace, 1, "lr")
    make_live(workspace, 1, "lr")
    make_live(workspace, 1)
    with ServerProcess(workspace) as running:
        yield running


def post(server: ServerProcess, body: object, deadline_ms: str = "", **more: str) -> httpx.Response:
    headers = {"x-deadline-ms": deadline_ms} if deadline_ms else {}
    return httpx.post(server.address + SCORE, json=body, headers=headers, params=more, trust_env=False, timeout=30)


def raw(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def metric(server: ServerProcess, name: str) -> float:
    text = httpx.get(server.address + "/metrics", trust_env=False, timeout=30).text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"bowerbird_{name} ")))


def test_a_trace_tells_the_stages(server: ServerProcess) -> None:
    body = {"user": 1, "candidates": ["i1"]}
    answer = post(server, body, "10000", trace="true")
    stages = answer.json()["trace"]["stages_ms"]
    assert list(stages) == ["queue", "decode", "features", "model", "slate"]
    assert all(value >= 0 for value in stages.values())
    timing = [each.split(";dur=") for each in answer.headers["server-timing"].split(", ")]
    told = {stage: float(value) for stage, value in timing}
    assert told.pop("encode") > 0
    assert told == stages
    assert "server-timing" not in post(server, body, "10000").headers


@pytest.mark.parametrize("text", ["0", "-5", "soon", "1.5", "600001", "9" * 40])
def test_a_deadline_that_is_none_is_told(server: ServerProcess, text: str) -> None:
    answer = post(server, {"user": 1, "candidates": ["i1"]}, text)
    assert (answer.status_code, answer.json()["code"]) == (422, "input")


def test_overload_is_refused_at_once_and_degrades_by_the_ladder(server: ServerProcess) -> None:
    statuses: Counter[int] = Counter()
    steps: Counter[str] = Counter()
    slowest_refusal = 0.0
    stop = time.monotonic() + 5

    def ask(number: int) -> None:
        nonlocal slowest_refusal
        with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as client:
            while time.monotonic() < stop:
                started = time.monotonic()
                answer = client.post(SCORE, json={"user": number % 20, "candidates": [f"i{n}" for n in range(60)] * 5})
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    _check_answer(answer.json(), steps)
                elif answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    assert 0 < int(answer.headers["retry-after-ms"]) <= 300
                    slowest_refusal = max(slowest_refusal, time.monotonic() - started)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429, 504}
    assert statuses[200] > 10
    assert any(steps[name] for name in ("fewer_candidates", "cheaper_model", "popularity"))
    assert metric(server, "queue_refused") == statuses[429]
    _wait_for_full_answers(server)


def _check_answer(answer: dict[str, object], steps: Counter[str]) -> None:
    step, ranking, scores = answer.get("degraded", ""), answer["ranking"], answer["scores"]
    assert isinstance(step, str) and isinstance(ranking, list) and isinstance(scores, dict)
    steps[step] += 1
    assert len(ranking) == 300
    scored = [value for value in ranking if value is not None]
    assert len(scored) == (10 if step in ("fewer_candidates", "cheaper_model") else 300)
    name = {"": "din", "fewer_candidates": "din", "cheaper_model": "lr", "popularity": None}[step]
    model = answer["model"]
    assert (model["name"] if isinstance(model, dict) else model) == name
    assert bool(scores) == (step != "popularity")


def _wait_for_full_answers(server: ServerProcess) -> None:
    deadline = time.monotonic() + 15
    while "degraded" in post(server, {"user": 1, "candidates": ["i1"]}, "10000").json():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_clients_that_go_away_take_their_requests_along(server: ServerProcess) -> None:
    before = metric(server, "queue_cancelled")
    body = json.dumps({"user": 1, "candidates": [f"i{n}" for n in range(60)] * 60}).encode()
    head = f"POST {SCORE} HTTP/1.1\r\nhost: x\r\nx-deadline-ms: 60000\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    connections = [raw(server) for _ in range(30)]
    for connection in connections:
        connection.sendall(head + body)
    time.sleep(0.05)
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + 20
    while metric(server, "queue_waiting") or metric(server, "queue_running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert metric(server, "queue_cancelled") > before
    assert post(server, {"user": 1, "candidates": ["i1"]}, "10000").status_code == 200


def test_a_head_that_trickles_is_cut_off(server: ServerProcess) -> None:
    with raw(server) as connection:
        started = time.monotonic()
        answer = b""
        for byte in f"POST {SCORE} HTTP/1.1\r\nhost: {'x' * 100}".encode():
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
            connection.settimeout(0.001)
            try:
                answer += connection.recv(4096)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
        assert 0.9 < time.monotonic() - started < 4


def test_a_head_that_began_with_the_end_of_a_request_is_cut_off_too(server: ServerProcess) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /hea")
        started = time.monotonic()
        said = b""
        while part := connection.recv(4096):
            said += part
        assert said.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in said
        assert 0.9 < time.monotonic() - started < 4


def test_a_connection_that_says_nothing_is_cut_off(server: ServerProcess) -> None:
    with raw(server) as connection:
        started = time.monotonic()
        assert connection.recv(4096) == b""
        assert time.monotonic() - started < 10


def test_a_body_that_does_not_come_is_cut_off_and_a_kept_connection_is_not(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as kept, raw(server) as connection:
        assert kept.get("/healthz").status_code == 200
        connection.sendall(f"POST {SCORE} HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nabc".encode())
        started = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert 1.5 < time.monotonic() - started < 6
        assert kept.get("/healthz").status_code == 200


def test_connections_beyond_the_limit_are_turned_away(server: ServerProcess) -> None:
    deadline = time.monotonic() + 20
    connections = [raw(server) for _ in range(45)]
    try:
        answers = []
        for connection in reversed(connections):
            connection.settimeout(0.2)
            try:
                answers.append(connection.recv(64))
            except TimeoutError:
                break
        assert any(answer.startswith(b"HTTP/1.1 503") for answer in answers)
    finally:
        for connection in connections:
            connection.close()
    while True:
        try:
            assert post(server, {"user": 1, "candidates": ["i1"]}, "10000").status_code == 200
            break
        except (AssertionError, httpx.HTTPError):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert metric(server, "connections_turned_away") >= 1


def test_bodies_together_take_no_more_memory_than_they_may(server: ServerProcess) -> None:
    """Half a body of each waits in the server; one more than fits is refused, and all is given back."""
    head = f"POST {SCORE} HTTP/1.1\r\nhost: x\r\nx-deadline-ms: 60000\r\ncontent-length: 900000\r\n\r\n".encode()
    refused = 0
    connections = [raw(server) for _ in range(4)]
    for connection in connections:
        connection.sendall(head + b" " * 600_000)
    for connection in connections:
        connection.settimeout(4)
        refused += connection.recv(4096).startswith(b"HTTP/1.1 429")
        connection.close()
    assert refused >= 2
    assert post(server, {"user": 1, "candidates": ["i1"]}, "10000").status_code == 200


def test_the_workspace_is_where_it_was(server: ServerProcess) -> None:
    assert Path(server.workspace.folder, "serve.log").exists()
    assert "Traceback" not in server.log
