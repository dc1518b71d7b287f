"""Overload of a real server over real sockets: a scene of known time, refusals by the head, unread requests."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import OverloadedError
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest
from bowerbird.server.load import pool as pools
from bowerbird.server.load.admission import Work
from bowerbird.server.load.service_time import ServiceTime
from tests.server.raw_http import answers, connect, post
from tests.server.slow_server import DEADLINE_SECONDS, PATH, slow_server

SECONDS = 0.04
BODY = b"x" * 10_000


def load(port: int, **how: Any) -> Measured:
    test = LoadTest(
        Target.of(f"http://127.0.0.1:{port}"), [Request(PATH, BODY)], seconds=3, warm_up=1,
        deadline=DEADLINE_SECONDS, timeout=2, processes=2, **how,
    )  # fmt: skip
    return test.run()[0]


@pytest.mark.parametrize("threads", [0, 1])
def test_goodput_stays_at_capacity_at_five_times_the_load(tmp_path: Path, threads: int) -> None:
    with slow_server(tmp_path, threads, SECONDS) as (port, scene):
        for may_repeat in (True, False):  # once more where the machine itself stood still
            capacity = load(port, closed=[2]).answered
            taken = scene.taken
            found = load(port, rates=[5 / SECONDS])
            if not may_repeat or found.goodput > 0.7 * capacity:
                break
        assert found.goodput > 0.7 * capacity, (found.goodput, capacity, found.errors)
        assert set(found.errors) <= {"status 429", "status 504"}
        assert scene.taken - taken < 1.1 * 4 / SECONDS
        after = load(port, rates=[0.3 / SECONDS])
        assert not after.errors
        assert after.p99 < 1e3 * DEADLINE_SECONDS


class Busy:
    """Keeps a slow server busy for ``seconds`` from the first request on, so that short deadlines are refused."""

    def __init__(self, port: int) -> None:
        self._connections = [connect(port) for _ in range(3)]

    def __enter__(self) -> None:
        for connection in self._connections:
            connection.sendall(post(more="x-deadline-ms: 60000\r\n"))
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            assert answers(connection, 1)[0][0] == 200
            connection.close()


SHORT = "x-deadline-ms: 60\r\n"


def test_what_the_head_refuses_is_answered_at_once_and_its_body_dropped(tmp_path: Path) -> None:
    with slow_server(tmp_path, 1, 0.4) as (port, scene), connect(port) as connection:
        with Busy(port):
            started = time.monotonic()
            whole = post(b"y" * 50_000, SHORT)
            connection.sendall(whole[:1000])
            status, headers, body = answers(connection, 1)[0]
            assert time.monotonic() - started < 0.2
            assert (status, json.loads(body)["code"]) == (429, "overloaded")
            assert int(headers[b"retry-after-ms"]) > 0 and headers[b"content-type"] == b"application/problem+json"
            connection.sendall(whole[1000:] + post(b"y", SHORT))
            assert answers(connection, 1)[0][0] == 429
        assert scene.taken == 3
        connection.sendall(post(b"four"))
        assert answers(connection, 1)[0][::2] == (200, b"4")


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with slow_server(tmp_path, 1, 0.4) as (port, _), connect(port) as connection, Busy(port):
        connection.sendall(post(b"1", SHORT) + post(b"12", "x-deadline-ms: 60000\r\n") + post(b"123", SHORT) * 2)
        found = answers(connection, 4)
        assert [each[0] for each in found[:2]] == [429, 200]
        assert found[1][2] == b"2"
        assert all(status == 429 or (status, body) == (200, b"3") for status, _, body in found[2:])


@pytest.mark.parametrize(("version", "more"), [("1.0", ""), ("1.1", "connection: close\r\n")])
def test_a_connection_that_is_not_kept_is_closed_after_the_refusal(tmp_path: Path, version: str, more: str) -> None:
    with slow_server(tmp_path, 1, 0.3) as (port, _), connect(port) as connection, Busy(port):
        connection.sendall(post(b"1", SHORT + more, version))
        status, headers, _ = answers(connection, 1)[0]
        assert (status, headers[b"connection"]) == (429, b"close")
        assert connection.recv(10) == b""


def test_a_refused_client_that_waits_to_be_told_to_go_on_is_not_mistaken(tmp_path: Path) -> None:
    with slow_server(tmp_path, 1, 0.3) as (port, _), connect(port) as connection, Busy(port):
        head = post(b"1", SHORT + "expect: 100-continue\r\n")[:-1]
        connection.sendall(head)
        assert answers(connection, 1)[0][0] == 429


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the kernel does not tell when bytes came")
def test_time_in_the_socket_counts_against_the_deadline(tmp_path: Path) -> None:
    """The loop itself computes for 400 ms; what came meanwhile for 60 ms is late when it is read, and not computed."""
    with slow_server(tmp_path, 0, 0.4) as (port, scene), connect(port) as first, connect(port) as second:
        first.sendall(post())
        time.sleep(0.1)
        second.sendall(post(more=SHORT))
        status, _, body = answers(second, 1)[0]
        assert (status, json.loads(body)["code"]) == (504, "deadline")
        assert answers(first, 1)[0][0] == 200
        assert scene.taken == 1


def test_a_call_on_the_loop_is_made_from_another_thread(tmp_path: Path) -> None:
    seen: list[int] = []
    for threads in (0, 2):
        pool = pools.make_pool(threads, 10, lambda waited: None)
        pool.on_every_thread(lambda: seen.append(threading.get_ident()))
        pool.close()
    assert len(seen) == 3
    assert seen[0] == threading.get_ident() and len(set(seen)) == 3


@pytest.mark.parametrize(("refuses", "together"), [(False, 1), (True, 3)])
def test_calls_follow_each_other_while_requests_are_refused(
    refuses: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop looks at its sockets between two calls; while it refuses, after a while only."""
    monkeypatch.setattr(pools, "_REST_SECONDS", 60.0)
    assert max(asyncio.run(calls_per_turn(refuses, deadline=6000.0)).values()) == together


def test_short_deadlines_are_not_spent_on_calls_that_follow_each_other() -> None:
    assert max(asyncio.run(calls_per_turn(True, deadline=0.01)).values()) == 1


async def calls_per_turn(refuses: bool, deadline: float) -> Counter[int]:
    """Return how many of three calls were made in each turn of the loop, where a fourth may have been refused."""
    pool = pools.make_pool(0, 3, lambda waited: None)
    turn, seen = 0, Counter[int]()
    now = time.monotonic()
    work = Work(ServiceTime(), 1.0, now, now + deadline)

    def call(waited: float) -> None:
        time.sleep(0.002)
        seen[turn] += 1

    asked = [asyncio.ensure_future(pool.run(work, call)) for _ in range(3)]
    await asyncio.sleep(0)
    if refuses:
        with pytest.raises(OverloadedError):
            pool.check(work)
    serving = asyncio.ensure_future(pool.serve())
    while not all(each.done() for each in asked):
        turn += 1
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    return seen
