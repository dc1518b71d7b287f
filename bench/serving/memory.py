"""Memory of server processes that map a large embedding table.

    python -m bench.serving.memory [--workspace FOLDER] [--rows 50000000] [--formats fp32 fp16 int8] [--workers 1 2 4]

Serves KuaiRand with DIN, its largest table filled up with made-up keys, rows in each format. Pages that several
processes share count once (the sum of proportional set sizes); own memory is what a process has written. Servers
map what requests touch, whatever the format, so that the first one's are measured; beside them, processes that read
all of it show what the whole table costs.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.common import Row, write
from bench.serving.latency import make_bodies
from bench.serving.served import memory_of, served_workspace, server_pids, server_process
from bench.tables.large import large_versions
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.embedding.served_table import RowFormat, ServedTable

PATH = "/v1/scenes/feed/score"
GIB = 2**30
ANSWER_SECONDS = 300


def ask(port: int, bodies: list[bytes], count: int) -> None:
    """Ask on several connections, so that every worker has answered."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS) for _ in range(8)]
    for turn in range(count):
        connection = connections[turn % len(connections)]
        connection.request("POST", PATH, bodies[turn % len(bodies)], {"x-deadline-ms": str(1000 * ANSWER_SECONDS)})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
    for connection in connections:
        connection.close()


def memory_rows(case: str, pids: list[int]) -> list[Row]:
    """Return the memory of processes."""
    total, own = memory_of(pids)
    return [
        Row(f"{case}: memory", total / GIB, "GiB", note="shared pages count once"),
        Row(f"{case}: of it their own", own / GIB, "GiB"),
    ]


def measure_server(case: str, workspace: Workspace, workers: int, bodies: list[bytes]) -> list[Row]:
    """Return one server's rows."""
    with server_process(workspace, "--workers", str(workers)) as (port, pid):
        ask(port, bodies, 200)
        return memory_rows(f"{case}, server of {workers}, 200 requests", server_pids(pid))


def read_all(table: Path) -> None:
    """Map a table and read all of it, then wait for the end of the input."""
    served = ServedTable.open(table)
    served.verify()
    print("ready", flush=True)
    sys.stdin.readline()


@contextmanager
def readers(table: Path, count: int) -> Iterator[list[int]]:
    """Run processes that have read all of a table; yields their ids."""
    command = [sys.executable, "-m", "bench.serving.memory", "--read", str(table)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.communicate(b"\n")


def measure(workspace: Workspace, rows: int, formats: list[RowFormat], workers: list[int]) -> list[Row]:
    """Return the rows of all formats."""
    bodies = make_bodies(workspace, 200)
    measured: list[Row] = []
    for format, large in large_versions(workspace, rows, formats):
        size = large.file.stat().st_size
        measured.append(Row(f"{format}: file of {rows:,} rows", size / GIB, "GiB", note=f"{size / rows:.1f} bytes/row"))
        for count in workers:
            with readers(large.file, count) as pids:
                measured += memory_rows(f"{format}, {count} processes that read all of it", pids)
            if format == formats[0]:
                measured += measure_server(format, workspace, count, bodies)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--formats", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_all(arguments.read)
    else:
        workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
        write("serving_memory", measure(workspace, arguments.rows, arguments.formats, arguments.workers))


if __name__ == "__main__":
    main()
