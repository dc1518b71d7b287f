"""Starts and lookups with a large embedding table, rows in each format.

    python -m bench.tables.start [--workspace FOLDER] [--rows 50000000] [--formats fp32 fp16 int8]

KuaiRand with DIN, its largest table filled up with made-up keys. A load is what a server does of a version: read the
bundle, map its tables, make the program ready, ask the golden requests; each in a fresh process, the files in the page
cache. The peer of a load is one that compares the tables with their hashes first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.common import Row, write
from bench.serving.served import served_workspace
from bench.tables.large import large_versions
from bowerbird.bundles.bundle import read_bundle, verify_golden
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.embedding.served_table import RowFormat, ServedTable

GIB = 2**30
ROUNDS = 3
LOOKUPS = 2_000
ASKED = 200
"""Rows of one lookup."""


def load(bundle: Path, verify_tables: bool) -> None:
    """Load a version and print the seconds: of all, and of mapping the tables."""
    started = time.perf_counter()
    read = read_bundle(bundle, verify_tables)
    verify_golden(read)
    loaded = time.perf_counter()
    read.load_collection()
    print(loaded - started, time.perf_counter() - loaded)


def load_seconds(bundle: Path, *options: str) -> tuple[float, float]:
    """Return the least seconds of loads, each in a fresh process, and of mapping alone."""
    command = [sys.executable, "-m", "bench.tables.start", "--load", str(bundle), *options]
    runs = [subprocess.run(command, capture_output=True, check=True).stdout.split() for _ in range(ROUNDS)]
    return min(float(run[0]) for run in runs), min(float(run[1]) for run in runs)


def lookup(table: Path) -> float:
    """Return the least nanoseconds per row of finding and taking random keys, of some rounds."""
    served = ServedTable.open(table)
    keys, _ = served.file_keys()
    random = np.random.default_rng(1)
    rounds = []
    for _ in range(ROUNDS):
        asked = keys[random.integers(0, len(keys), (LOOKUPS, ASKED))]
        started = time.perf_counter()
        for each in asked:
            served.take(served.find(each))
        rounds.append((time.perf_counter() - started) / asked.size)
    return 1e9 * min(rounds)


def measure(workspace: Workspace, rows: int, formats: list[RowFormat]) -> list[Row]:
    """Return the rows of all formats."""
    measured = []
    for format, large in large_versions(workspace, rows, formats):
        size = large.file.stat().st_size / GIB
        seconds, mapping = load_seconds(large.bundle.folder)
        verified, _ = load_seconds(large.bundle.folder, "--verify")
        measured += [
            Row(f"{format}: file of {rows:,} rows", size, "GiB"),
            Row(f"{format}: loaded", seconds, "s", verified, verified / seconds, note="the peer reads the tables, too"),
            Row(f"{format}: of it mapping all tables", mapping, "s"),
            Row(f"{format}: find and take {ASKED} random rows", lookup(large.file), "ns/row"),
        ]
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--formats", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--verify", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.load, arguments.verify)
        return
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    write("table_start", measure(workspace, arguments.rows, arguments.formats))


if __name__ == "__main__":
    main()
