"""The parts of several processes, without processes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import InputError, UnavailableError
from bowerbird.server.observe.metrics_exchange import joined
from bowerbird.server.processes.handover import (
    Connections,
    Failed,
    Ready,
    hand_over,
    handover_pair,
    report,
    reports,
    taken_over,
)
from bowerbird.server.processes.relay import RelayClient, RelayServer


def test_pages_of_metrics_become_one() -> None:
    first = '# HELP a Of a.\n# TYPE a counter\na{x="1"} 2.0\na{x="2"} 3.0\n# HELP b Of b.\n# TYPE b gauge\nb 1.0\n'
    second = '# HELP a Of a.\n# TYPE a counter\na{x="1"} 5.0\n'
    assert joined([(0, first), (1, second)]) == (
        '# HELP a Of a.\n# TYPE a counter\na{worker="0",x="1"} 2.0\na{worker="0",x="2"} 3.0\n'
        'a{worker="1",x="1"} 5.0\n# HELP b Of b.\n# TYPE b gauge\nb{worker="0"} 1.0\n'
    )


def test_a_connection_and_reports_pass_between_two_ends() -> None:
    supervisor, worker = handover_pair()
    ours, theirs = socket.socketpair()
    with supervisor, worker, ours, theirs:
        assert taken_over(worker) == []
        assert hand_over(supervisor, theirs)
        connections = taken_over(worker)
        assert connections is not None
        (connection,) = connections
        with connection:
            ours.sendall(b"hello")
            assert connection.recv(9) == b"hello"
        told = [Ready(["a"]), Connections(3, 2), Failed("input", "What.", "Remedy.")]
        for each in told:
            report(worker, each)
        assert reports(supervisor) == (told, True)
        assert isinstance(told[2].error(), InputError)  # type: ignore[attr-defined]
        supervisor.close()
        assert taken_over(worker) is None
        report(worker, Ready([]))


def test_calls_answers_errors_and_news_over_the_relay(tmp_path: Path) -> None:
    async def double(payload: Any) -> Any:
        await asyncio.sleep(0.01 * (3 - payload))
        return 2 * payload

    async def refuse(payload: Any) -> Any:
        raise InputError("Not this.", "Another.")

    async def fail(payload: Any) -> Any:
        raise ValueError("oh")

    async def run() -> None:
        path = tmp_path / "writer.sock"
        news: list[Any] = []
        connections: list[int] = []
        client = RelayClient(path, lambda: connections.append(1), {"items": news.append})
        with pytest.raises(UnavailableError):
            await client.call("double", 1)
        listening = asyncio.create_task(client.run())
        for turn in range(2):
            server = RelayServer(path, {"double": double, "refuse": refuse, "fail": fail})
            serving = asyncio.create_task(server.run())
            await asyncio.wait_for(_until(lambda turn=turn: len(connections) > turn), 10)
            assert await asyncio.gather(*(client.call("double", n) for n in range(3))) == [0, 2, 4]
            with pytest.raises(InputError, match="Not this"):
                await client.call("refuse", None)
            with pytest.raises(Exception, match="ValueError: oh"):
                await client.call("fail", None)
            server.tell("items", ["i1", turn])
            await asyncio.wait_for(_until(lambda turn=turn: len(news) > turn), 10)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert news == [["i1", 0], ["i1", 1]]
        listening.cancel()

    asyncio.run(run())


async def _until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0.01)
