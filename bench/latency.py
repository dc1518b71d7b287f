"""Latency over loopback of one server process: 200 candidates, 1 and 8 connections.

    python bench/latency.py PROJECT [--scene NAME] [--candidates 200] [--requests 2000]

Starts ``bowerbird serve`` on the project, asks for scores of random known users and items with a keep-alive
connection per client thread (closed loop), and writes ``bench/out/latency.json``. The clients run in a
process of their own, so that they do not share the server's interpreter.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.log.reader import LogReader

OUT = Path(__file__).parent / "out" / "latency.json"
WARM = 50


def main() -> None:
    arguments = parse()
    workspace = load_workspace(arguments.project)
    scene = arguments.scene or workspace.project.scenes[0].name
    bodies = make_bodies(workspace, arguments.candidates)
    process, port = start_server(arguments.project)
    try:
        path = f"/v1/scenes/{scene}/score"
        rows = [measure(port, path, bodies, count, arguments.requests) for count in arguments.connections]
        stages = stage_means(port)
    finally:
        process.terminate()
        process.wait()
    report(workspace, arguments, rows, stages)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--scene", default="")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    return parser.parse_args()


def make_bodies(workspace: Workspace, candidates: int, count: int = 200) -> list[bytes]:
    project = workspace.project
    exposures = LogReader(workspace).records(project.exposure.name)
    users = exposures.column(project.user.name).unique().to_pylist()
    items = exposures.column(project.item.name).unique().to_pylist()
    chance = random.Random(0)
    return [
        json.dumps({"user": chance.choice(users), "candidates": chance.choices(items, k=candidates)}).encode()
        for _ in range(count)
    ]


def start_server(project: Path) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(project), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in iter(process.stdout.readline, b""):
        if line.startswith(b"Ready at "):
            return process, int(line.split()[2].rsplit(b":", 1)[1])
    raise SystemExit("the server did not start")


def measure(port: int, path: str, bodies: list[bytes], connections: int, requests: int) -> dict[str, Any]:
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
    p50, p90, p99 = np.percentile(np.array(seconds) * 1e3, [50, 90, 99])
    rate = (each + WARM) * connections / elapsed
    return {"connections": connections, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "requests_per_s": rate}


def stage_means(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    sums: dict[str, dict[str, float]] = {}
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("bowerbird_stage_seconds_") and "bucket" not in line and "created" not in line:
            name, value = line.rsplit(" ", 1)
            kind, stage = name.split("{")[0].rsplit("_", 1)[1], name.split('"')[1]
            sums.setdefault(stage, {})[kind] = float(value)
    return {stage: 1e3 * each["sum"] / each["count"] for stage, each in sums.items() if each["count"]}


def report(
    workspace: Workspace, arguments: argparse.Namespace, rows: list[dict[str, Any]], stages: dict[str, float]
) -> None:
    print(f"{workspace.project.name}, {arguments.candidates} candidates, one server process")
    print(f"{'connections':>12} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'requests/s':>11}")
    for row in rows:
        print(
            f"{row['connections']:>12} {row['p50_ms']:>8.2f} {row['p90_ms']:>8.2f} {row['p99_ms']:>8.2f}"
            f" {row['requests_per_s']:>11.0f}"
        )
    print("mean ms by stage: " + ", ".join(f"{stage} {value:.2f}" for stage, value in stages.items()))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "project": workspace.project.name,
        "candidates": arguments.candidates,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "rows": rows,
        "stages_ms": stages,
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
