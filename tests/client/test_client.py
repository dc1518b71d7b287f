"""Both clients over real sockets: answers, refusals, disconnects, slowness; the same for each."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from bowerbird.client import AsyncClient, Client, Retries
from bowerbird.errors import BowerbirdError, DeadlineError, InputError, StorageError, UnavailableError
from tests.client.scripted import ScriptedServer, answer, answer_half, drip, hang_up, problem, say_nothing

SCORES = {
    "slate_id": "s", "model": {"name": "din", "version": 3}, "lsn": 7, "time": "2024-01-01T00:00:00+00:00",
    "scores": {"click": [0.5]}, "ranking": [0.5],
}  # fmt: skip
RECEIPT = {"accepted": 1, "duplicate": 0, "rejected": 0, "events": [{"status": "accepted", "id": "c1"}]}
QUICK = Retries(wait=0.01)
Ask = Callable[..., Any]


def ask_blocking(address: str, name: str, *arguments: Any, **settings: Any) -> Any:
    with Client(address, **settings) as client:
        return getattr(client, name)(*arguments)


def ask_awaited(address: str, name: str, *arguments: Any, **settings: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(address, **settings) as client:
            return await getattr(client, name)(*arguments)

    return asyncio.run(run())


@pytest.fixture(params=[ask_blocking, ask_awaited], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


def test_both_have_the_same_methods_with_the_same_words() -> None:
    public = [name for name in dir(Client) if not name.startswith("_")]
    assert public == [name for name in dir(AsyncClient) if not name.startswith("_")]
    for name in {"score", "recommend", "send_events", "entity", "models", "promote"}:
        blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(blocking) == inspect.signature(awaited)
        assert blocking.__doc__ == awaited.__doc__ and len(blocking.__doc__) > 20
        assert inspect.iscoroutinefunction(awaited) and not inspect.iscoroutinefunction(blocking)


def test_an_answer_has_its_type_and_the_request_its_key_and_deadline(ask: Ask) -> None:
    with ScriptedServer(answer(200, SCORES)) as server:
        found = ask(server.address, "score", "a/b", 3, ["i1"], key="bower_x", timeout=5.0)
    assert (found.model.version, found.scores, found.ranking) == (3, {"click": [0.5]}, [0.5])
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/scenes/a%2Fb/score")
    assert seen.headers["authorization"] == "Bearer bower_x"
    assert 4000 < int(seen.headers["x-deadline-ms"]) <= 5000
    assert b'"candidates":["i1"]' in seen.body


@pytest.mark.parametrize("refusal", [problem(429, "overloaded"), problem(503, "unavailable"), answer(502, "<html>")])
def test_a_score_is_asked_for_again_when_the_server_is_full(ask: Ask, refusal: Any) -> None:
    with ScriptedServer(refusal, refusal, answer(200, SCORES)) as server:
        assert ask(server.address, "score", "home", 3, ["i1"], retries=QUICK).lsn == 7
    assert len(server.seen) == 3


def test_after_its_attempts_a_call_ends_with_the_servers_error(ask: Ask) -> None:
    with ScriptedServer(problem(503, "unavailable")) as server, pytest.raises(UnavailableError) as raised:
        ask(server.address, "score", "home", 3, ["i1"], retries=QUICK)
    assert (raised.value.what, raised.value.remedy, len(server.seen)) == ("What.", "Remedy.", 3)


@pytest.mark.parametrize("interruption", [hang_up, answer_half])
def test_a_lost_connection_is_repeated_where_that_is_safe(ask: Ask, interruption: Any) -> None:
    with ScriptedServer(interruption, answer(200, SCORES)) as server:
        assert ask(server.address, "score", "home", 3, ["i1"], retries=QUICK).lsn == 7
    with ScriptedServer(interruption, answer(200, RECEIPT)) as server:
        assert ask(server.address, "send_events", [{"type": "click", "id": "c1"}], retries=QUICK).accepted == 1
    for name, arguments in [("send_events", [[{"type": "click"}]]), ("send_event", [{}]), ("promote", ["din", 2])]:
        with ScriptedServer(interruption) as server, pytest.raises(UnavailableError, match="no answer"):
            ask(server.address, name, *arguments, retries=QUICK)
        assert len(server.seen) == 1, name


def test_events_without_ids_are_repeated_only_where_the_server_refused_them(ask: Ask) -> None:
    with ScriptedServer(problem(429, "overloaded"), answer(200, RECEIPT)) as server:
        assert ask(server.address, "send_events", [{"type": "click"}], retries=QUICK).accepted == 1
    with ScriptedServer(problem(503, "unavailable")) as server, pytest.raises(UnavailableError):
        ask(server.address, "send_events", [{"type": "click"}], retries=QUICK)
    assert len(server.seen) == 1


@pytest.mark.parametrize(("status", "code", "kind"), [(422, "input", InputError), (507, "storage", StorageError)])
def test_what_would_fail_again_is_not_repeated(ask: Ask, status: int, code: str, kind: type[BowerbirdError]) -> None:
    with ScriptedServer(problem(status, code)) as server, pytest.raises(kind):
        ask(server.address, "score", "home", 3, ["i1"], retries=QUICK)
    assert len(server.seen) == 1


def test_retry_after_is_waited_for_and_the_deadline_goes_down(ask: Ask) -> None:
    with ScriptedServer(problem(429, "overloaded", retry_after="1"), answer(200, SCORES)) as server:
        ask(server.address, "score", "home", 3, ["i1"], retries=QUICK, timeout=5.0)
    first, second = server.seen
    assert second.at - first.at >= 1.0
    assert int(second.headers["x-deadline-ms"]) <= int(first.headers["x-deadline-ms"]) - 1000


def test_retry_after_may_be_a_date(ask: Ask) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    with ScriptedServer(problem(429, "overloaded", retry_after=later), answer(200, SCORES)) as server:
        ask(server.address, "score", "home", 3, ["i1"], retries=QUICK, timeout=10.0)
    assert server.seen[1].at - server.seen[0].at >= 1.5


def test_a_wait_beyond_the_deadline_is_not_begun(ask: Ask) -> None:
    started = time.monotonic()
    with ScriptedServer(problem(429, "busy", retry_after="60")) as server, pytest.raises(BowerbirdError) as raised:
        ask(server.address, "score", "home", 3, ["i1"], timeout=5.0)
    assert raised.value.status == 429 and time.monotonic() - started < 4.0


@pytest.mark.parametrize("slowness", [say_nothing(1.5), drip(1.5)])
def test_a_slow_answer_ends_at_the_deadline(ask: Ask, slowness: Any) -> None:
    with ScriptedServer(slowness) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineError, match=r"within 0\.4 s"):
            ask(server.address, "score", "home", 3, ["i1"], timeout=0.4)
        assert 0.35 < time.monotonic() - started < 1.2
        assert len(server.seen) == 1


def test_nobody_listening_is_unavailable(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="bowerbird serve"):
        ask(address, "scenes", retries=QUICK)
    assert ask(address, "ready") is False


def test_a_server_that_starts_late_is_reached(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    servers: list[Any] = []

    def listen() -> None:
        listening = socket.create_server(("127.0.0.1", port))
        servers.append(listening)
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            answer(200, RECEIPT)(connection)

    starting = threading.Timer(0.3, listen)
    starting.start()
    patient = Retries(attempts=50, wait=0.2, longest_wait=0.2, reserve=50)
    assert ask(f"http://127.0.0.1:{port}", "send_event", {"type": "click"}, retries=patient).accepted == 1
    starting.join()
    servers[0].close()


def test_ready_asks_once(ask: Ask) -> None:
    with ScriptedServer(answer(503, {"status": "starting"}), answer(200, {"status": "ready"})) as server:
        assert ask(server.address, "ready") is False
        assert ask(server.address, "ready") is True
    assert len(server.seen) == 2


def test_retries_stay_within_their_budget() -> None:
    sparing = Retries(wait=0.0, share=0.1, reserve=5.0)
    with ScriptedServer(problem(503, "unavailable")) as server, Client(server.address, retries=sparing) as client:
        for _ in range(100):
            with pytest.raises(UnavailableError):
                client.score("home", 3, ["i1"])
    assert 100 <= len(server.seen) <= 100 + 5 + 100 * 0.1


def test_a_body_that_is_no_answer_is_an_error(ask: Ask) -> None:
    for body in ("<html>", {"slate_id": 1}):
        with ScriptedServer(answer(200, body)) as server, pytest.raises(BowerbirdError, match="does not know"):
            ask(server.address, "score", "home", 3, ["i1"])


def test_threads_and_tasks_share_a_bounded_pool() -> None:
    with ScriptedServer(answer(200, SCORES)) as server:
        with Client(server.address, connections=4) as client:
            threads = [threading.Thread(target=client.score, args=("home", 3, ["i1"])) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(server.seen) == 16 and server.connections <= 4

        async def many() -> None:
            async with AsyncClient(server.address, connections=3) as client:
                await asyncio.gather(*(client.score("home", 3, ["i1"]) for _ in range(16)))

        asyncio.run(many())
        assert len(server.seen) == 32 and server.connections <= 7


def test_a_cancelled_call_leaves_a_client_that_works() -> None:
    async def run() -> int:
        async with AsyncClient(server.address, retries=QUICK) as client:
            call = asyncio.ensure_future(client.score("home", 3, ["i1"]))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return (await client.score("home", 3, ["i1"])).lsn

    with ScriptedServer(say_nothing(0.5), answer(200, SCORES)) as server:
        assert asyncio.run(run()) == 7


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError):
        Retries(attempts=0)
