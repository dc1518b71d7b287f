"""Embedding deltas under load: 100 of them, one after another, while requests come.

    python -m bench.serving.deltas [--workspace FOLDER] [--deltas 100] [--keys 1000] [--workers 1]

Serves KuaiRand with DIN. An open loop at 40% of capacity is measured quiet and then while deltas change rows of its
largest table, by turns; medians of the rounds count, and no request may fail. Then a few deltas more, without load,
tell how long after its publication the last process answers with one. The deltas are gone afterwards.
"""

from __future__ import annotations

import argparse
import re
import shutil
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

import numpy as np

from bench.common import Row, write
from bench.serving.latency import make_bodies
from bench.serving.served import served_workspace, server_process
from bench.tables.large import largest, live_bundle, tables_of_bundle
from bowerbird.bundles.bundle import Bundle
from bowerbird.bundles.deltas import DeltaLog, publish_delta
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.embedding.served_table import TableChange
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest

SHARE = 0.4
QUIET_DELTAS = 10
ROUNDS = 5
WAIT_SECONDS = 60.0


class Publisher:
    """Publishes changes of random keys' rows, small ones, as a trainer that goes on would."""

    def __init__(self, bundle: Bundle, keys: int) -> None:
        self._bundle = bundle
        self._vocabulary = largest(bundle)
        self._table = tables_of_bundle(bundle).tables[self._vocabulary]
        self._known, _ = self._table.file_keys()
        self.count = min(keys, len(self._known))
        self.seconds: list[float] = []
        self._random = np.random.default_rng(0)

    def publish(self) -> int:
        """Publish one; return its number."""
        keys = self._random.choice(self._known, self.count, replace=False)
        rows = self._table.take(self._table.find(keys))
        noise = self._random.normal(scale=0.001, size=rows.shape).astype(np.float32)
        started = time.perf_counter()
        published = publish_delta(self._bundle, {self._vocabulary: TableChange(keys, rows + noise)})
        self.seconds.append(time.perf_counter() - started)
        return published.sequence

    def publish_over(self, seconds: float, count: int) -> None:
        """Publish ``count``, evenly spread over some seconds after the first one."""
        due = time.perf_counter() + 1.0
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            self.publish()
            due += seconds / count


def staleness(port: int, sequence: int, workers: int) -> float:
    """Wait until every process has a delta; return the greatest seconds that one took."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        held = [float(each) for each in re.findall(r"^bowerbird_delta\{.*\} (\S+)$", text, re.MULTILINE)]
        if held == [float(sequence)] * workers:
            seconds = re.findall(r"^bowerbird_delta_staleness_seconds\{.*\} (\S+)$", text, re.MULTILINE)
            return max(map(float, seconds))
        time.sleep(0.1)
    raise SystemExit(f"Delta {sequence} did not reach all {workers} processes within {WAIT_SECONDS:.0f} s: {held}.")


def measure(workspace: Workspace, deltas: int, keys: int, workers: int, seconds: float) -> list[Row]:
    """Return the rows."""
    bundle = live_bundle(workspace)
    publisher = Publisher(bundle, keys)
    requests = [Request("/v1/scenes/feed/score", body) for body in make_bodies(workspace, 200)]
    with server_process(workspace, "--workers", str(workers)) as (port, _):
        target = Target.of(f"http://127.0.0.1:{port}", deadline_ms=5_000)

        def run(length: float, **more: object) -> Measured:
            test = LoadTest(target, requests, seconds=length, warm_up=1.0, deadline=5.0, **more)  # type: ignore[arg-type]
            return test.run()[0]

        rate = SHARE * run(4.0, closed=(4,)).answered
        quiet, changed = [], []
        for turn in range(ROUNDS):
            quiet.append(run(seconds / ROUNDS, rates=(rate,)))
            count = deltas * (turn + 1) // ROUNDS - deltas * turn // ROUNDS
            publishing = threading.Thread(target=publisher.publish_over, args=(seconds / ROUNDS, count))
            publishing.start()
            changed.append(run(seconds / ROUNDS, rates=(rate,)))
            publishing.join()
        staleness(port, deltas, workers)
        stale = [staleness(port, publisher.publish(), workers) for _ in range(QUIET_DELTAS)]
    rows = [Row("requests", rate, "requests/s", note=f"{workers} processes")]
    for name in ("p50", "p99"):
        before, during = (median(getattr(each, name) for each in runs) for runs in (quiet, changed))
        case = f"{name} while {deltas} deltas of {publisher.count:,} keys come"
        rows.append(Row(case, during, "ms", before, during / before, note="the peer is quiet"))
    failed = sum(sum(each.errors.values()) for each in changed)
    return [
        *rows,
        Row("failed", float(failed), "requests"),
        Row("a publication", sum(publisher.seconds) / len(publisher.seconds), "s"),
        Row("staleness: mean of the slowest process", sum(stale) / len(stale), "s"),
        Row("staleness: worst", max(stale), "s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--deltas", type=int, default=100)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    bundle = live_bundle(workspace)
    folder = DeltaLog(bundle.folder, bundle.digest).folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        options = (arguments.deltas, arguments.keys, arguments.workers, arguments.seconds)
        write("serving_deltas", measure(workspace, *options))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
