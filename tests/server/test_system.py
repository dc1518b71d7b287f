import socket
import threading
import time

import httpx
import pytest

from bowerbird.client import Client
from bowerbird.client.answers import ModelVersion
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import (
    ForbiddenError,
    InputError,
    MethodError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from bowerbird.server.run import run_server
from bowerbird.server.web.access import KeyStore
from tests.server.process import ServerProcess


def get(server: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(server.address + path, trust_env=False)


def test_health_readiness_metrics_and_documentation(shared: ServerProcess) -> None:
    with shared.client() as client:
        client.score("home", 1, ["i1"])
    assert get(shared, "/healthz").json() == {"status": "ok"}
    assert get(shared, "/readyz").json()["status"] == "ready"
    metrics = get(shared, "/metrics").text
    assert 'bowerbird_live_version{model="din"} 1.0' in metrics
    assert "bowerbird_log_position" in metrics
    assert "bowerbird_stage_seconds_count" in metrics
    document = get(shared, "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/scenes/{scene}/score" in document["paths"]
    page = get(shared, "/docs").text
    assert "/v1/events" in page
    assert "http://" not in page and "https://" not in page


def test_what_does_not_exist_is_a_problem(shared: ServerProcess, client: Client) -> None:
    assert get(shared, "/v3").json()["code"] == NotFoundError.code
    problem = httpx.get(shared.address + "/v1/events", trust_env=False)
    assert (problem.status_code, problem.json()["code"]) == (405, MethodError.code)
    with pytest.raises(NotFoundError, match="Did you mean 'user'"):
        client.entity("usr", 1)
    with pytest.raises(NotFoundError, match="no version 9"):
        client.version("din", 9)
    with pytest.raises(NotFoundError):
        client.promote("din", 9)


def test_control_plane(client: Client) -> None:
    (model,) = client.models().models
    assert (model.name, model.live, len(model.versions)) == ("din", 1, 2)
    assert client.version("din", 1).serving is True
    (scene,) = client.scenes().scenes
    assert (scene.labels, scene.model) == (["click", "order"], ModelVersion("din", 1))
    (plan,) = client.plan().plans
    assert {each["name"] for each in plan.plan["features"]} >= {"user", "item", "history"}


def test_an_item_shows_its_features(client: Client) -> None:
    assert client.entity("item", "i20").features["price"] == 2.0


def test_a_fifty_megabyte_body_is_refused_before_it_is_read(shared: ServerProcess, client: Client) -> None:
    started = time.monotonic()
    with pytest.raises(TooLargeError, match="50,000,"):
        client.send_event({"type": "x" * 50_000_000})
    assert time.monotonic() - started < 5

    def chunks() -> object:
        for _ in range(50):
            yield b"x" * 1_000_000

    answer = httpx.post(shared.address + "/v1/events", content=chunks(), trust_env=False)  # type: ignore[arg-type]
    assert answer.status_code == 413
    assert client.ready()


def test_a_refusal_comes_without_waiting_for_the_body(shared: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", shared.port)) as connection:
        connection.sendall(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\nabc")
        connection.settimeout(5)
        assert b"413" in connection.recv(4096).split(b"\r\n")[0]


def test_keys_guard_every_noun_by_scope(workspace: Workspace) -> None:
    keys = KeyStore(workspace.keys_file)
    reader, writer, admin = (keys.create(name, [name]) for name in ("read", "write", "admin"))  # type: ignore[list-item]
    event = {"type": "click", "user": 1, "item": "i1"}
    with (
        ServerProcess(workspace) as server,
        server.client() as nobody,
        server.client(reader) as read,
        server.client(writer) as write,
        server.client(admin) as boss,
    ):
        assert nobody.ready()
        with pytest.raises(UnauthorizedError):
            nobody.score("home", 1, ["i1"])
        with server.client("bower_wrong") as stranger, pytest.raises(UnauthorizedError):
            stranger.scenes()
        read.score("home", 1, ["i1"])
        with pytest.raises(ForbiddenError, match="allows read, not write"):
            read.send_event(event)
        write.send_event(event)
        with pytest.raises(ForbiddenError):
            write.promote("din", 2)
        assert boss.promote("din", 2).serving is True
        boss.send_event(event)


def test_an_open_address_needs_a_key(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="without any API key"):
        run_server(workspace, "0.0.0.0", 0)


def test_a_second_server_on_the_same_data_is_refused(workspace: Workspace) -> None:
    with ServerProcess(workspace), pytest.raises(UnavailableError, match="written by process"):
        run_server(workspace, "127.0.0.1", 0)


def test_an_address_in_use_is_told(workspace: Workspace, shared: ServerProcess) -> None:
    with pytest.raises(UnavailableError, match="cannot listen"):
        run_server(workspace, "127.0.0.1", shared.port)


def test_a_server_that_is_not_there() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnavailableError, match="no answer"):
        client.scenes()


def test_sigterm_answers_what_is_in_flight(workspace: Workspace) -> None:
    items = [f"i{number}" for number in range(3_000)]
    failures: list[Exception] = []
    answered = 0

    def ask(server: ServerProcess) -> None:
        nonlocal answered
        with server.client() as client:
            try:
                while True:
                    assert len(client.score("home", 1, items).ranking) == len(items)
                    answered += 1
            except Exception as error:
                failures.append(error)

    with ServerProcess(workspace) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while answered < len(threads):
            assert time.monotonic() < deadline, failures
            time.sleep(0.01)
        before = answered
        assert server.stop() == 0
        for thread in threads:
            thread.join()
    assert answered > before
    assert all(isinstance(error, UnavailableError) for error in failures)
