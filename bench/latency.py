"""Latency over loopback of one server process: 200 candidates, 1 and 8 connections.

    python -m bench.latency [--model din] [--candidates 200] [--requests 2000]

Serves KuaiRand with a recipe of ``bench.accuracy``, asks for scores of random known users and videos with a keep-alive
connection per client thread (closed loop). The clients run in a process of their own, on the same cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass

import numpy as np

from bench.common import Row, write
from bench.served import served_workspace, server
from bowerbird.declare.workspace import Workspace
from bowerbird.log.reader import LogReader

WARM = 50


@dataclass(frozen=True)
class Measured:
    """One closed loop's latencies in milliseconds."""

    connections: int
    p50: float
    p99: float
    requests_per_second: float


def make_bodies(workspace: Workspace, candidates: int, count: int = 200) -> list[bytes]:
    """Return request bodies of random known users and videos."""
    exposures = LogReader(workspace).records("exposure")
    users, videos = (exposures.column(name).unique().to_pylist() for name in ("user", "video"))
    chance = random.Random(0)
    return [
        json.dumps(
            {"user": chance.choice(users), "context": {"tab": 1}, "candidates": chance.sample(videos, candidates)}
        ).encode()
        for _ in range(count)
    ]


def measure(port: int, path: str, bodies: list[bytes], connections: int, requests: int) -> Measured:
    """Ask in closed loops and return what it took."""
    seconds: list[float] = []
    each = requests // connections

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        own = []
        for turn in range(each + WARM):
            started = time.perf_counter()
            connection.request("POST", path, bodies[(number * 37 + turn) % len(bodies)])
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"status {response.status}")
            if turn >= WARM:
                own.append(time.perf_counter() - started)
        seconds.extend(own)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    rate = (each + WARM) * connections / elapsed
    return Measured(connections, float(p50), float(p99), rate)


def stage_means(port: int) -> dict[str, float]:
    """Return the server's own mean milliseconds by stage."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    sums: dict[str, dict[str, float]] = {}
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("bowerbird_stage_seconds_") and "bucket" not in line and "created" not in line:
            name, value = line.rsplit(" ", 1)
            kind, stage = name.split("{")[0].rsplit("_", 1)[1], name.split('"')[1]
            sums.setdefault(stage, {})[kind] = float(value)
    return {stage: 1e3 * each["sum"] / each["count"] for stage, each in sums.items() if each["count"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="din")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--name", default="latency")
    arguments = parser.parse_args()
    workspace = served_workspace(arguments.model)
    bodies = make_bodies(workspace, arguments.candidates)
    with server(workspace) as port:
        path = "/v1/scenes/feed/score"
        measured = [measure(port, path, bodies, count, arguments.requests) for count in arguments.connections]
        stages = stage_means(port)
    rows = []
    for one in measured:
        case = f"{arguments.model}, {arguments.candidates} candidates, {one.connections} connections"
        rows += [
            Row(f"{case}: p50", one.p50, "ms"),
            Row(f"{case}: p99", one.p99, "ms"),
            Row(f"{case}: throughput", one.requests_per_second, "requests/s"),
        ]
    rows += [Row(f"{stage}, mean in the server", value, "ms") for stage, value in stages.items()]
    write(arguments.name, rows, script="latency")


if __name__ == "__main__":
    main()
