"""Requests that a connection reads whole and answers itself, and those that it leaves to uvicorn, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import InputError, OverloadedError
from bowerbird.server.load.admission import AdmissionQueue
from bowerbird.server.web.http import Request
from tests.server.raw_http import answers, connect, post
from tests.server.slow_server import BODY_BYTES, MEMORY_BYTES, PATH, SlowScene, slow_server

SECONDS = 0.01
CHUNKED = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def requests_held() -> int:
    return sum(type(each) is Request for each in gc.get_objects())


@pytest.mark.parametrize("threads", [0, 2])
def test_what_was_answered_is_freed_without_the_collector_of_cycles(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> Any:
        raise InputError("No.", "Try another one.")

    with slow_server(tmp_path, threads, SECONDS) as (port, _), without_collector():
        before = requests_held()
        with connect(port) as connection:
            for size in range(5):
                connection.sendall(post(b"x" * size))
                assert answers(connection, 1)[0][::2] == (200, str(size).encode())
            connection.sendall(post(b"x", "x-deadline-ms: 0\r\n"))
            assert answers(connection, 1)[0][0] == 422
            connection.sendall(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
            assert answers(connection, 1)[0][::2] == (200, b"3")
        with connect(port) as gone:
            gone.sendall(post(b"xy"))
            assert answers(gone, 1)[0][::2] == (200, b"2")
            gone.sendall(post(b"xyz"))
        with connect(port) as connection:
            for step in ("_compute", "_answer"):
                monkeypatch.setattr(SlowScene, step, failed)
                connection.sendall(post(b"x"))
                assert answers(connection, 1)[0][0] == 422
        wait_until(lambda: requests_held() == before)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_body_may_come_in_pieces_and_connections_are_kept(tmp_path: Path, threads: int) -> None:
    with slow_server(tmp_path, threads, SECONDS) as (port, scene), connect(port) as connection:
        for size in (1, 0, 70_000, 200_000):
            whole = post(b"x" * size)
            for start in range(0, len(whole), 50_001):
                connection.sendall(whole[start : start + 50_001])
                time.sleep(0.02)
            status, headers, body = answers(connection, 1)[0]
            assert (status, json.loads(body)) == (200, size)
            assert b"connection" not in headers and len(headers[b"x-request-id"]) == 16
        assert scene.memory.taken == 0


def test_what_is_not_read_whole_is_answered_alike(tmp_path: Path) -> None:
    with slow_server(tmp_path, 0, SECONDS) as (port, scene), connect(port) as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert answers(connection, 1)[0][::2] == (200, b"5")
        connection.sendall(post(b"12") + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + post(b"1234"))
        assert [each[::2] for each in answers(connection, 3)] == [(200, b"2"), (200, b"3"), (200, b"4")]
        connection.sendall(post(b"x" * (BODY_BYTES + 1)))
        status, headers, _ = answers(connection, 1)[0]
        assert (status, headers[b"connection"]) == (413, b"close")
        assert scene.memory.taken == 0


def test_a_connection_that_is_not_kept_is_closed_after_the_answer(tmp_path: Path) -> None:
    with slow_server(tmp_path, 0, SECONDS) as (port, _):
        for version, more in (("1.0", ""), ("1.1", "connection: close\r\n")):
            with connect(port) as connection:
                connection.sendall(post(b"abc", more, version))
                status, headers, body = answers(connection, 1)[0]
                assert (status, body, headers[b"connection"]) == (200, b"3", b"close")
                assert connection.recv(10) == b""


def test_a_client_that_goes_before_its_body_is_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    with slow_server(tmp_path, 0, SECONDS) as (port, scene):
        with connect(port) as connection:
            connection.sendall(post(b"x" * 100_000)[:50_000])
            wait_until(lambda: scene.memory.taken > 0)
        wait_until(lambda: scene.memory.taken == 0)
        assert scene.taken == 0


def test_a_client_that_goes_while_it_waits_is_not_answered(tmp_path: Path) -> None:
    with slow_server(tmp_path, 1, 0.2) as (port, scene), connect(port) as first:
        first.sendall(post(b"a", "x-deadline-ms: 60000\r\n"))
        wait_until(lambda: scene.memory.taken == 1)
        with connect(port) as second:
            second.sendall(post(b"bc", "x-deadline-ms: 60000\r\n"))
            wait_until(lambda: scene.memory.taken == 3)
        wait_until(lambda: scene.memory.taken == 1)
        assert answers(first, 1)[0][::2] == (200, b"1")
        assert scene.taken == 1


def test_bodies_that_are_too_many_are_refused_and_their_connection_is_kept(tmp_path: Path) -> None:
    whole = post(b"x" * (BODY_BYTES - 1000))
    with slow_server(tmp_path, 0, SECONDS) as (port, scene), connect(port) as last:
        with connect(port) as first, connect(port) as second:
            for connection in (first, second):
                connection.sendall(whole[:-1])
            wait_until(lambda: scene.memory.taken > MEMORY_BYTES - 2500)
            last.sendall(post(b"y" * 5000))
            status, _, body = answers(last, 1)[0]
            assert (status, json.loads(body)["code"]) == (429, "overloaded")
        wait_until(lambda: scene.memory.taken == 0)
        last.sendall(post(b"four"))
        assert answers(last, 1)[0][::2] == (200, b"4")


def test_a_connection_whose_answer_was_cancelled_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(SlowScene, "_answer", cancelled)
    with slow_server(tmp_path, 0, SECONDS) as (port, _), connect(port) as connection:
        connection.sendall(post())
        assert connection.recv(10) == b""


def test_refusals_leave_in_their_order_and_before_their_connection_is_closed(tmp_path: Path) -> None:
    no_number = "x-deadline-ms: soon\r\n"
    with slow_server(tmp_path, 0, SECONDS) as (port, scene):
        with connect(port) as connection:
            connection.sendall(post(b"1", no_number) + post(b"12") + post(b"1", no_number) + post(b"1234"))
            found = answers(connection, 4)
            assert [status for status, _, _ in found] == [422, 200, 422, 200]
            assert [body for _, _, body in found][1::2] == [b"2", b"4"]
        with connect(port) as connection:
            connection.sendall(post(b"1", no_number + "connection: close\r\n"))
            assert answers(connection, 1)[0][0] == 422
            assert connection.recv(10) == b""
        with connect(port) as connection:
            connection.sendall(post(b"1", no_number) + b"this is no HTTP\r\n\r\n")
            assert [status for status, _, _ in answers(connection, 2)] == [422, 400]
        assert scene.memory.taken == 0


def test_what_a_head_was_admitted_for_is_counted_when_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that come together are refused by their heads, not after their bodies were taken."""
    put_refused: list[Exception] = []
    put = AdmissionQueue.put

    def watched(queue: AdmissionQueue, *arguments: Any) -> Any:
        try:
            return put(queue, *arguments)
        except OverloadedError as error:
            put_refused.append(error)
            raise

    monkeypatch.setattr(AdmissionQueue, "put", watched)
    with slow_server(tmp_path, 0, 0.02) as (port, _), ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(40)]
        for _ in range(3):
            for connection in connections:
                connection.sendall(post(b"x" * 100))
            statuses = Counter(answers(connection, 1)[0][0] for connection in connections)
            assert statuses[200] > 0 and statuses[429] > 10
    assert put_refused == []


def test_a_connection_that_asks_nothing_is_closed_after_a_while(tmp_path: Path) -> None:
    with slow_server(tmp_path, 0, SECONDS, idle_seconds=1) as (port, _), connect(port) as silent, connect(port) as kept:
        for _ in range(8):
            kept.sendall(post(b"x"))
            assert answers(kept, 1)[0][0] == 200
            time.sleep(0.25)
        silent.settimeout(0.5)
        assert silent.recv(10) == b""
        assert kept.recv(10) == b""
