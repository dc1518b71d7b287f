"""Latency over loopback of one server process: 200 and 500 candidates, 1 and 8 connections, by the fastest way.

    python -m bench.serving.latency [--model din] [--candidates 200 500] [--requests 2000] [--ways torch.fp32]

Serves KuaiRand with a recipe of ``bench.accuracy``, asks for scores of random known users and videos with a keep-alive
connection per client thread (closed loop). The clients run in a process of their own, on the same cores. ``--ways``
name what the fastest way is compared with (peer), by servers that are started one after another.
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
from bench.serving.served import served_workspace, server
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


@dataclass(frozen=True)
class Served:
    """What one server took: by number of candidates and connections; its stages' means; the way it served by."""

    measured: dict[tuple[int, int], Measured]
    stages: dict[str, float]
    way: str


def serve(workspace: Workspace, way: str, arguments: argparse.Namespace) -> Served:
    """Measure a server that serves by a way, or by the fastest."""
    settings = workspace.folder / "bowerbird.toml"
    written = settings.read_text()
    settings.write_text(written + f'way = "{way}"\n')
    try:
        with server(workspace) as port:
            measured = {
                (count, connections): measure(
                    port, "/v1/scenes/feed/score", make_bodies(workspace, count), connections, arguments.requests
                )
                for count in arguments.candidates
                for connections in arguments.connections
            }
            return Served(measured, stage_means(port), served_way(port))
    finally:
        settings.write_text(written)


def served_way(port: int) -> str:
    """Return the way that a server's only model is served by."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/models")
    (model,) = json.loads(connection.getresponse().read())["models"]
    return next(each["served"]["way"] for each in model["versions"] if each["serving"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="din")
    parser.add_argument("--candidates", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--ways", nargs="+", default=["torch.fp32"])
    parser.add_argument("--name", default="latency")
    arguments = parser.parse_args()
    workspace = served_workspace(arguments.model)
    fastest = serve(workspace, "", arguments)
    rows = []
    for way in arguments.ways:
        other = serve(workspace, way, arguments)
        for (count, connections), one in fastest.measured.items():
            case = f"{arguments.model}, {count} candidates, {connections} connections, {fastest.way} (peer: {way})"
            peer = other.measured[count, connections]
            rates = one.requests_per_second, peer.requests_per_second
            rows += [
                Row(f"{case}: p50", one.p50, "ms", peer.p50, peer.p50 / one.p50),
                Row(f"{case}: p99", one.p99, "ms", peer.p99, peer.p99 / one.p99),
                Row(f"{case}: throughput", rates[0], "requests/s", rates[1], rates[0] / rates[1]),
            ]
    rows += [Row(f"{stage}, mean in the server", value, "ms") for stage, value in fastest.stages.items()]
    write(arguments.name, rows)


if __name__ == "__main__":
    main()
