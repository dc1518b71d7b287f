"""Resident memory of one server in 1, 2 and 4 processes.

    python -m bench.serving_memory [--workspace FOLDER]

Serves KuaiRand with DIN. Pages that several processes share count once (the sum of proportional set sizes).
"""

from __future__ import annotations

import argparse
import http.client
import time
from pathlib import Path

from bench.common import Row, write
from bench.latency import make_bodies
from bench.served import resident_bytes, served_workspace, server_process
from bowerbird.declare.workspace import Workspace, load_workspace

PATH = "/v1/scenes/feed/score"


def ask(port: int, bodies: list[bytes], count: int) -> None:
    """Ask on several connections, so that every worker has answered."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(8)]
    for turn in range(count):
        connection = connections[turn % len(connections)]
        connection.request("POST", PATH, bodies[turn % len(bodies)], {"x-deadline-ms": "60000"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
    for connection in connections:
        connection.close()


def measure(workspace: Workspace, workers: int, bodies: list[bytes]) -> list[Row]:
    """Return one server's rows."""
    started = time.perf_counter()
    with server_process(workspace, "--workers", str(workers)) as (port, pid):
        ready = time.perf_counter() - started
        ask(port, bodies, 200)
        rows = [
            Row(f"{workers} processes: memory after 200 requests", resident_bytes(pid) / 2**20, "MiB"),
            Row(f"{workers} processes: start", ready, "s"),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    bodies = make_bodies(workspace, 200)
    write("serving_memory", [row for workers in arguments.workers for row in measure(workspace, workers, bodies)])


if __name__ == "__main__":
    main()
