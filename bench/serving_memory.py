"""Embedding tables that several server processes map: memory, starts and lookups with a large one.

    python -m bench.serving_memory [--workspace FOLDER] [--rows 50000000] [--formats fp32 fp16 int8] [--workers 1 2 4]

Serves KuaiRand with DIN, its largest table filled up with made-up keys, rows in each format. Pages that several
processes share count once (the sum of proportional set sizes); private memory is what a process has to itself. Servers
map what requests touch; beside them, processes that read every row show what the whole table costs.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.common import WORK, Row, write
from bench.large_table import filled_up, largest, live_bundle, publish_filled_up
from bench.latency import make_bodies
from bench.served import memory_of, served_workspace, server_pids, server_process
from bowerbird.bundles.bundle import Bundle, read_bundle, verify_golden
from bowerbird.bundles.registry import Registry
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.embedding.served_table import RowFormat, ServedTable, write_served_table

PATH = "/v1/scenes/feed/score"
GIB = 2**30
PIECE = 1_000_000
ASKED = 200
"""Rows of one lookup."""


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


def memory_rows(case: str, pids: list[int]) -> list[Row]:
    """Return the memory of processes."""
    total, private = memory_of(pids)
    return [
        Row(f"{case}: memory", total / GIB, "GiB", note="shared pages count once"),
        Row(f"{case}: of it private", private / GIB, "GiB"),
    ]


def measure_server(case: str, workspace: Workspace, workers: int, bodies: list[bytes]) -> list[Row]:
    """Return one server's rows."""
    started = time.perf_counter()
    with server_process(workspace, "--workers", str(workers)) as (port, pid):
        ready = time.perf_counter() - started
        ask(port, bodies, 200)
        rows = memory_rows(f"{case}, server of {workers}, 200 requests", server_pids(pid))
        rows.append(Row(f"{case}, server of {workers}: from command to ready", ready, "s"))
    return rows


def read_all(table: Path) -> None:
    """Read every row of a table, then wait for the end of the input."""
    served = ServedTable.open(table)
    for first in range(0, len(served) + 2, PIECE):
        served.take(np.arange(first, min(first + PIECE, len(served) + 2)))
    keys, _ = served.file_keys()
    assert len(keys) == len(served)
    del keys
    print("ready", flush=True)
    sys.stdin.readline()


@contextmanager
def readers(table: Path, count: int) -> Iterator[list[int]]:
    """Run processes that have read every row of a table; yields their ids."""
    command = [sys.executable, "-m", "bench.serving_memory", "--read", str(table)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.communicate(b"\n")


def load(bundle: Path) -> None:
    """Load a version as a server does, in a process of its own, and print the seconds."""
    started = time.perf_counter()
    verify_golden(read_bundle(bundle, verify_tables=False))
    print(time.perf_counter() - started)


def load_seconds(bundle: Bundle) -> float:
    """Return the least seconds of three loads, each in a fresh process, the file in the page cache."""
    command = [sys.executable, "-m", "bench.serving_memory", "--load", str(bundle.folder)]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3))


def lookup(table: Path) -> float:
    """Return the least nanoseconds per row of finding and taking random keys, among rounds of 2,000 lookups."""
    served = ServedTable.open(table)
    keys, _ = served.file_keys()
    random = np.random.default_rng(1)
    rounds = []
    for _ in range(3):
        asked = keys[random.integers(0, len(keys), (2_000, ASKED))]
        started = time.perf_counter()
        for each in asked:
            served.take(served.find(each))
        rounds.append((time.perf_counter() - started) / asked.size)
    return 1e9 * min(rounds)


def measure(workspace: Workspace, rows: int, formats: list[RowFormat], workers: list[int]) -> list[Row]:
    """Return the rows of all formats; the versions that it publishes are gone afterwards."""
    bundle, bodies = live_bundle(workspace), make_bodies(workspace, 200)
    vocabulary = largest(bundle)
    keys, vectors = filled_up(bundle, vocabulary, rows)
    file = WORK / "large.table"
    measured: list[Row] = []
    for format in formats:
        started = time.perf_counter()
        write_served_table(file, keys, vectors, format)
        written = time.perf_counter() - started
        measured.append(Row(f"{format}: file", file.stat().st_size / GIB, "GiB", note=f"{rows:,} x {vectors.shape[1]}"))
        measured.append(Row(f"{format}: write", written, "s"))
        large = publish_filled_up(workspace, bundle, vocabulary, file)
        try:
            measured.append(Row(f"{format}: loaded, golden requests asked, file cached", load_seconds(large), "s"))
            measured.append(Row(f"{format}: find and take {ASKED} random rows", lookup(file), "ns/row"))
            for count in workers:
                with readers(file, count) as pids:
                    measured += memory_rows(f"{format}, {count} processes that read every row", pids)
                measured += measure_server(format, workspace, count, bodies)
        finally:
            withdraw(workspace, large)
            file.unlink()
    return measured


def withdraw(workspace: Workspace, bundle: Bundle) -> None:
    """Take a version away again and make the one before it live."""
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    registry.rollback(bundle.manifest.name)
    registry.retire(bundle.manifest.name, bundle.manifest.version)
    shutil.rmtree(bundle.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--formats", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_all(arguments.read)
    elif arguments.load:
        load(arguments.load)
    else:
        workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
        write("serving_memory", measure(workspace, arguments.rows, arguments.formats, arguments.workers))


if __name__ == "__main__":
    main()
