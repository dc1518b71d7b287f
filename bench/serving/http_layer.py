"""What a request takes beside the stages of scoring, against an event loop alone that reads and writes as much."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.common import Row

_BARE = Path(__file__).parents[1] / "peers" / "bare_loop.py"
_BARE_PORT = 18704
_ROUNDS = 4
_LENGTH = re.compile(rb"HTTP/1.1 200 .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL)
_TIMING = re.compile(rb"\r\nserver-timing: ([^\r]*)\r\n")


def http_rows(candidates: int, port: int, path: str, bodies: list[bytes], seconds: float) -> list[Row]:
    """Return what requests over one connection take beside the stages of scoring: sockets, HTTP and waiting.

    The client writes bytes that are ready and asks for the answer again and again, without sleeping: what it takes to
    wake a client is the client's. The server sleeps between requests and is woken, as in a system that is not busy.
    The bare loop stands on the same core and answers as many bytes to the same requests, in turns with ours.
    """
    head = b"POST %b?trace=true HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    requests = [head % (path.encode(), len(body)) + body for body in bodies]
    whole, beside, bare = [], [], []
    with _connected(port) as ours:
        _, answer = _asked(ours, requests[0])
        with _bare_server(len(answer)), _connected(_BARE_PORT) as other:
            for _ in range(_ROUNDS):
                for connection, into in ((ours, whole), (other, bare)):
                    until = time.monotonic() + seconds / _ROUNDS
                    while time.monotonic() < until:
                        milliseconds, answer = _asked(connection, requests[len(into) % len(requests)])
                        into.append(milliseconds)
                        if into is whole:
                            beside.append(milliseconds - _stages_ms(answer))
    p90 = sorted(beside)[len(beside) * 9 // 10]
    figure, peer = median(beside), median(bare)
    title = f"{candidates} candidates: a request over one connection less its stages of scoring, p50"
    note = f"{len(whole)} requests of {median(whole):.2f} ms (p50); p90 of the difference {p90:.2f} ms"
    return [
        Row(f"{title} (peer: an event loop alone)", figure, "ms", peer, figure / peer, note=note),
        Row(f"{candidates} candidates: what HTTP and the queue add to an event loop alone, p50", figure - peer, "ms"),
    ]


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


@contextmanager
def _bare_server(length: int) -> Iterator[None]:
    """Run the bare loop on the last core, as ours of one process."""
    command = [sys.executable, str(_BARE), str(_BARE_PORT), str(length)]
    core = os.cpu_count() or 1
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core - 1})
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()


def _asked(connection: socket.socket, request: bytes) -> tuple[float, bytes]:
    """Send a request; return the milliseconds until all of its answer was there, and the answer."""
    started = time.perf_counter()
    connection.sendall(request)
    answer, length = b"", 1 << 30
    while len(answer) < length:
        try:
            received = connection.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        if not received:
            raise SystemExit(f"The server has closed its connection after {answer[:200]!r}.")
        answer += received
        found = _LENGTH.match(answer)
        if found:
            length = found.end() + int(found[1])
    return 1e3 * (time.perf_counter() - started), answer


def _stages_ms(answer: bytes) -> float:
    """Return the milliseconds of all stages but the queue in an answer's ``Server-Timing`` field."""
    found = _TIMING.search(answer)
    assert found is not None, answer[:500]
    stages = dict(each.split(b";dur=") for each in found[1].split(b", "))
    return sum(float(value) for stage, value in stages.items() if stage != b"queue")
