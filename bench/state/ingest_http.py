"""Events accepted per second over HTTP, each answered after its fdatasync: batches of 1 and 100, several connections.

    python -m bench.state.ingest_http [--seconds 5] [--folder FOLDER]

A server process on loopback, with the small project of the server's tests (four event types, fourteen features, a
live model). The senders run in a process of their own on the same cores: every connection sends a batch, waits for its
answer and sends the next. Every event is new. What a bare fdatasync of as many bytes takes is measured beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench.common import Row, write
from tests.server.tiny import ITEMS, USERS, make_live, make_workspace, publish

ROOT = Path(__file__).parents[2]
WARM_SECONDS = 1.0
LOADS = [(1, 1), (1, 8), (1, 64), (100, 1), (100, 8), (100, 32)]


@dataclass(frozen=True)
class Measured:
    """One load: events a second that were accepted, the answers' latencies in milliseconds, and all accepted ones."""

    events_per_second: float
    p50: float
    p99: float
    accepted: int


def event(chance: random.Random, number: int) -> dict[str, object]:
    kind = chance.choice(["click", "click", "exposure", "exposure", "order"])
    values: dict[str, object] = {"type": kind, "user": chance.randrange(USERS), "item": f"i{chance.randrange(ITEMS)}"}
    if kind == "order":
        values["amount"] = round(chance.random() * 10, 2)
    if kind == "exposure":
        values |= {"page": chance.randrange(3), "speed": chance.random(), "position": chance.randrange(8)}
    return {**values, "id": f"{kind[0]}{number:012x}{chance.getrandbits(32):08x}"}


class Bodies:
    """Requests of new events, written beforehand but for a prefix that makes their ids new each time."""

    def __init__(self, batch: int, seed: int) -> None:
        chance = random.Random(seed)
        self._batch = batch
        self._seed = seed
        self._used = 0
        events = [event(chance, number) for number in range(max(200, batch))]
        self._texts = [json.dumps(each).encode().replace(b'"id": "', b'"id": "@@') for each in events]

    def request(self) -> bytes:
        """Return the bytes of the next request."""
        self._used += 1
        prefix = f"{self._seed}.{self._used}.".encode()
        if self._batch == 1:
            body = self._texts[self._used % len(self._texts)].replace(b"@@", prefix)
        else:
            body = b'{"events": [' + b",".join(self._texts[: self._batch]).replace(b"@@", prefix) + b"]}"
        return b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Connection:
    """One keep-alive connection in a closed loop."""

    def __init__(self, port: int, batch: int, seed: int) -> None:
        self._port = port
        self._batch = batch
        self._bodies = Bodies(batch, seed)
        self.done: list[tuple[float, float]] = []

    async def run(self, until: float) -> None:
        """Send until a time of ``time.perf_counter``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (started := time.perf_counter()) < until:
            writer.write(self._bodies.request())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            accepted = int(answer[answer.index(b":") + 1 : answer.index(b",")])
            assert accepted == self._batch, answer[:300]
            self.done.append((started, time.perf_counter() - started))
        writer.close()


def load(port: int, batch: int, connections: int, seconds: float, seed: int) -> Measured:
    """Return what a load measured, after a warm-up that does not count."""

    async def run() -> Measured:
        begun = time.perf_counter()
        senders = [Connection(port, batch, seed * 1000 + number) for number in range(connections)]
        await asyncio.gather(*(sender.run(begun + WARM_SECONDS + seconds) for sender in senders))
        times = [took for sender in senders for at, took in sender.done if at >= begun + WARM_SECONDS]
        p50, p99 = np.percentile(times, [50, 99]) * 1e3
        accepted = sum(len(sender.done) for sender in senders) * batch
        return Measured(len(times) * batch / seconds, float(p50), float(p99), accepted)

    return uvloop.run(run())


def bare_sync(folder: Path, size: int, count: int = 300) -> tuple[float, float]:
    """Return the p50 and p99 milliseconds of appending ``size`` bytes and fdatasync, nothing else."""
    file = folder / "bare"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        os.write(descriptor, b"x" * size)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - started)
    os.close(descriptor)
    file.unlink()
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return float(p50), float(p99)


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_server(folder: Path, profile: str) -> tuple[subprocess.Popen[bytes], int]:
    profiled = ["-m", "cProfile", "-o", profile] if profile else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, *profiled, "-m", "bowerbird.cli.main", "serve", "--project", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    for line in iter(process.stdout.readline, b""):
        if line.startswith(b"Ready at "):
            return process, int(line.split()[2].rsplit(b":", 1)[1])
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="Where the log is written; default: a temporary folder.")
    parser.add_argument("--profile", default="", help="Write the server's cProfile there.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    workspace = make_workspace(folder / "tiny")
    publish(workspace, 1)
    make_live(workspace, 1)
    rows = []
    for size in (150, 15_000):
        p50, p99 = bare_sync(folder, size)
        rows.append(Row(f"bare write and fdatasync, {size:,} bytes", p50, "ms", note=f"p99 {p99:.2f}"))
    process, port = start_server(workspace.folder, options.profile)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            for seed, (batch, connections) in enumerate(LOADS, start=1):
                used = processor_seconds(process.pid)
                found = pool.apply(load, (port, batch, connections, options.seconds, seed))
                used = processor_seconds(process.pid) - used
                case = f"batches of {batch}, {connections} connections"
                each = used / found.accepted * 1e6
                note = f"answers: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms; server's CPU {each:.1f} us/event"
                rows.append(Row(case, found.events_per_second, "events/s", note=note))
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
    write("ingest_http", rows)


if __name__ == "__main__":
    main()
