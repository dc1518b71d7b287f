"""Connections that go from one server to another between two requests; their clients notice nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.raw_http import answers, connect, post
from tests.server.slow_server import SlowScene, slow_server
from tests.server.test_exchange import wait_until


@contextmanager
def to_and_fro(first: SlowScene, second: SlowScene, seconds: float) -> Iterator[None]:
    """Let two servers give each other what they have, again and again."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.wait(seconds):
            first.give_all_to(second)
            second.give_all_to(first)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize("threads", [0, 2])
def test_no_request_is_lost_whenever_its_connection_goes(tmp_path: Path, threads: int) -> None:
    chance = random.Random(threads)
    with (
        slow_server(tmp_path, threads, 0.001) as (port, first),
        slow_server(tmp_path, threads, 0.001) as (_, second),
        connect(port) as connection,
        to_and_fro(first, second, 0.002),
    ):
        for _ in range(150):
            sizes = [chance.randrange(1, 50_000) for _ in range(chance.choice([1, 1, 1, 3]))]
            whole = b"".join(post(b"x" * size, "x-deadline-ms: 60000\r\n") for size in sizes)
            cut = chance.randrange(len(whole))
            connection.sendall(whole[:cut])
            time.sleep(chance.choice([0.0, 0.005]))
            connection.sendall(whole[cut:])
            assert [each[::2] for each in answers(connection, len(sizes))] == [(200, b"%d" % each) for each in sizes]
        assert min(first.limits.handed_over, second.limits.handed_over) > 5
        assert min(first.taken, second.taken) > 5


def test_a_connection_stays_until_what_came_of_a_request_is_answered(tmp_path: Path) -> None:
    with (
        slow_server(tmp_path, 0, 0.001) as (port, first),
        slow_server(tmp_path, 0, 0.001) as (_, second),
        connect(port) as connection,
    ):
        whole = post(b"abc", "x-deadline-ms: 60000\r\n")
        connection.sendall(whole[:10])
        time.sleep(0.1)
        first.give_all_to(second)
        time.sleep(0.1)
        assert first.limits.handed_over == 0
        connection.sendall(whole[10:])
        assert answers(connection, 1)[0][::2] == (200, b"3")
        wait_until(lambda: first.limits.handed_over == 1)
        connection.sendall(whole)
        assert answers(connection, 1)[0][::2] == (200, b"3")
        assert (first.taken, second.taken) == (1, 1)


def test_what_is_refused_to_be_taken_stays(tmp_path: Path) -> None:
    with slow_server(tmp_path, 0, 0.001) as (port, first), connect(port) as connection:
        connection.sendall(post())
        answers(connection, 1)
        tried = threading.Event()

        def give_all() -> None:
            for each in first.server.server_state.connections:
                each.give_away(lambda _: tried.set() or False)  # type: ignore[union-attr,func-returns-value]

        first.loop.call_soon_threadsafe(give_all)
        assert tried.wait(5)
        connection.sendall(post(b"12"))
        assert answers(connection, 1)[0][::2] == (200, b"2")
        assert first.limits.handed_over == 0
