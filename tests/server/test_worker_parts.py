"""The parts of several processes, without processes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import InputError, UnavailableError
from bowerbird.server.observe.metrics_exchange import joined
from bowerbird.server.processes.balance import Balance, Move
from bowerbird.server.processes.giving import chosen
from bowerbird.server.processes.handover import (
    Busy,
    Connections,
    Failed,
    GiveAway,
    Load,
    Ready,
    hand_over,
    handover_pair,
    received,
    tell,
)
from bowerbird.server.processes.relay import RelayClient, RelayServer
from bowerbird.server.processes.takers import Worker, takers


def test_pages_of_metrics_become_one() -> None:
    first = '# HELP a Of a.\n# TYPE a counter\na{x="1"} 2.0\na{x="2"} 3.0\n# HELP b Of b.\n# TYPE b gauge\nb 1.0\n'
    second = '# HELP a Of a.\n# TYPE a counter\na{x="1"} 5.0\n'
    assert joined([(0, first), (1, second)]) == (
        '# HELP a Of a.\n# TYPE a counter\na{worker="0",x="1"} 2.0\na{worker="0",x="2"} 3.0\n'
        'a{worker="1",x="1"} 5.0\n# HELP b Of b.\n# TYPE b gauge\nb{worker="0"} 1.0\n'
    )


def test_connections_and_messages_pass_between_two_ends() -> None:
    supervisor, worker = handover_pair()
    ours, theirs = socket.socketpair()
    with supervisor, worker, ours, theirs:
        for sender, taker in ((supervisor, worker), (worker, supervisor)):
            assert received(taker) == ([], True)
            assert hand_over(sender, theirs)
            (connection,), _ = received(taker)
            assert isinstance(connection, socket.socket)
            with connection:
                ours.sendall(b"hello")
                assert connection.recv(9) == b"hello"
            sender.send(b"connection")  # its descriptor found no room
            assert received(taker) == ([], True)
        told = [Ready(["a"]), Connections(3, 2), Failed("input", "What.", "Remedy."), Busy(0.5), GiveAway(0.25)]
        for each in told:
            tell(worker, each)
        assert received(supervisor) == (told, True)
        assert isinstance(told[2].error(), InputError)  # type: ignore[attr-defined]
        supervisor.close()
        assert received(worker) == ([], False)
        tell(worker, Ready([]))
        assert not hand_over(worker, theirs)


def test_work_moves_from_the_busiest_worker_to_the_idlest_once_all_have_given_their_word() -> None:
    balance = Balance()
    balance.note(0, 0.9)
    assert balance.move([0, 1, 2]) is None
    balance.note(1, 0.5)
    balance.note(2, 0.1)
    assert balance.move([0, 1, 2]) == Move(0, 2, 0.4)
    for cores in (1.0, 0.5):  # the first word after a move is of before
        balance.note(0, cores)
        balance.note(2, 0.5)
        balance.note(1, 0.45)
        assert balance.move([0, 1, 2]) is None


def test_a_worker_that_has_gone_keeps_nothing_from_moving() -> None:
    balance = Balance()
    for worker, cores in ((0, 0.9), (1, 0.2), (2, 0.4)):
        balance.note(worker, cores)
    assert balance.move([0, 2]) == Move(0, 2, 0.25)
    assert Balance().move([0]) is None


@pytest.mark.parametrize(
    ("asked", "share", "expected"),
    [
        ({"a": 100, "b": 100}, 0.5, ["a"]),
        ({"a": 100}, 0.5, []),
        ({"a": 60, "b": 30, "c": 30}, 0.5, ["a"]),
        ({"a": 60, "b": 30, "c": 30}, 0.3, ["b"]),
        ({"a": 100, "b": 5, "c": 0}, 0.2, []),  # b may have large requests
        ({"a": 0}, 1.0, []),
        ({}, 1.0, []),
    ],
)
def test_connections_that_go_make_up_the_work_or_less(
    asked: dict[Any, int], share: float, expected: list[str]
) -> None:
    assert chosen(asked, share) == expected


def test_a_connection_goes_to_a_ready_worker_with_little_to_do() -> None:
    with socket.socket() as end:
        busy = Worker(0, 10, end, 0.0, ready=True, load=Load(given=4, taken=4, open=4, cores=0.9))
        idle = Worker(1, 11, end, 0.0, ready=True, load=Load(given=4, taken=4, open=4, cores=0.1))
        starting = Worker(2, 12, end, 0.0)
        workers = [starting, busy, idle]
        assert takers(workers) == [idle, busy, starting]
        assert takers(workers, first=0) == [busy, idle, starting]
        assert takers(workers, first=2) == [idle, busy, starting]
        assert takers([starting]) == [starting]


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
        client = RelayClient(path, lambda: connections.append(1), {"items": news.append}, {})
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


def test_a_question_waits_for_every_process_that_is_still_there(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "writer.sock"
        done: list[str] = []
        asked: list[str] = []

        def reader(name: str, answers: bool) -> RelayClient:
            async def follow(payload: Any) -> None:
                asked.append(name)
                await asyncio.sleep(0.05 if answers else 3600)
                done.append(f"{name} {payload}")
                raise InputError("Not this.", "Another.")

            return RelayClient(path, lambda: None, {}, {"follow": follow})

        server = RelayServer(path, {})
        await server.ask("follow", 0)
        serving = asyncio.create_task(server.run())
        readers = [asyncio.create_task(reader(name, name != "stuck").run()) for name in ("a", "b", "stuck")]
        await asyncio.wait_for(_until(lambda: server.connected == 3), 10)
        asking = asyncio.create_task(server.ask("follow", 7))
        await asyncio.wait_for(_until(lambda: len(done) == 2 and len(asked) == 3), 10)
        assert sorted(done) == ["a 7", "b 7"] and not asking.done()
        readers[2].cancel()
        await asyncio.wait_for(asking, 10)
        for task in (serving, *readers):
            task.cancel()

    asyncio.run(run())


async def _until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0.01)
