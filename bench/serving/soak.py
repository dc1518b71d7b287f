"""A soak: load at 70% of capacity with faults for as long as wished, and whether anything grows or goes wrong.

    python -m bench.serving.soak [--minutes 30] [--segment 30] [--workers 2] [--events 1000] [--workspace FOLDER]

Serves KuaiRand with DIN in several processes while events come. Segment after segment an open loop is measured, at 70%
of what a closed loop has answered just before (a machine's speed is not the same for half an hour), and in each one
fault happens: a reader process is killed, versions change places, clients go away in the middle of their requests.
Latency and memory of the first third of the segments are compared with the last third's, and a sample of the slates is
computed again: a wrong answer is one whose features or scores differ from what replay gives. Beside each segment stand
the server's own processor time per request and a calculation that is always the same: a machine that becomes slower is
told from a server that does. At the end the same requests are asked, without faults and events, of the server that has
run so long and of one that is started on a copy of its data, in turns while both run: a server that has become slower
answers later, and fewer in a closed loop, whatever the machine does meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench.common import Row, write
from bench.serving.events import Events
from bench.serving.latency import make_bodies
from bench.serving.segments import Segment, Watch, third_rows
from bench.serving.served import served_workspace, server_pids, server_process
from bench.serving.swaps import MODEL, publish_again, swap
from bowerbird.bundles.registry import Registry
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest
from bowerbird.loadtest.table import refusals_of
from bowerbird.monitoring.parity import ParityReport, check_parity
from bowerbird.serving.logged_slates import logged_slates

PATH = "/v1/scenes/feed/score"
SHARE = 0.7
GONE = 30
"""Clients that go away at once."""
FAULT_AFTER = 0.3
"""Share of a segment after which its fault happens."""
CLOSED = 1 / 6
"""Share of a segment that its closed loop takes."""
SLATES = 500
TURNS = 5

End = tuple[float, Measured]
"""What a closed loop has answered a second, and what an open one measured."""


class Faults:
    """What is done to a server, one thing after another; ``done`` counts them."""

    def __init__(self, port: int, pid: int, versions: list[int], requests: list[bytes]) -> None:
        self._port, self._pid = port, pid
        self._versions, self._requests = versions, requests
        self._kinds: Iterator[Callable[[], None]] = itertools.cycle([self.kill, self.swap, self.leave])
        self.done: Counter[str] = Counter()

    def next(self) -> None:
        """Do the next one."""
        kind = next(self._kinds)
        kind()
        self.done[kind.__name__] += 1

    def kill(self) -> None:
        """Kill the newest process that does not write."""
        workers = server_pids(self._pid)[1:]
        if len(workers) > 1:
            os.kill(workers[-1], signal.SIGKILL)

    def swap(self) -> None:
        """Promote the other version, and back."""
        swap(self._port, self._versions, 2)

    def leave(self) -> None:
        """Send requests, every other one in half, and go."""
        connections = [socket.create_connection(("127.0.0.1", self._port)) for _ in range(GONE)]
        for number, connection in enumerate(connections):
            request = self._requests[number % len(self._requests)]
            connection.sendall(request if number % 2 else request[: len(request) // 2])
        time.sleep(0.01)
        for connection in connections:
            connection.close()


def checked(workspace: Workspace) -> ParityReport:
    """Return how a sample of the slates compares with replay."""
    found = list(logged_slates(workspace.slates_folder))
    return check_parity(workspace, found[:: max(1, len(found) // SLATES)])


def capacity(target: Target, requests: list[Request], seconds: float) -> float:
    """Return how many requests a second a closed loop has answered."""
    return LoadTest(target, requests, seconds=seconds, warm_up=1.0, deadline=2.0, closed=(4,)).run()[0].answered


def started_again(workspace: Workspace) -> Workspace:
    """Return a copy of a workspace whose server runs, without the slates that it served."""
    folder = workspace.folder.with_name(f"{workspace.folder.name}-again")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workspace.folder, folder, ignore=shutil.ignore_patterns("slates", "__pycache__"))
    return load_workspace(folder)


def asked(target: Target, requests: list[Request], rate: float, seconds: float) -> End:
    """Return what a closed loop has answered a second, and what an open one measures."""
    closed = LoadTest(target, requests, seconds=seconds, warm_up=2.0, deadline=2.0, closed=(4,))
    opened = LoadTest(target, requests, seconds=seconds, warm_up=2.0, rates=(rate,), deadline=2.0)
    return closed.run()[0].answered, opened.run()[0]


def in_turns(old: Target, fresh: Target, requests: list[Request], rate: float, seconds: float) -> list[tuple[End, End]]:
    """Return what two servers that both run do in turns, of which the first, in which caches fill, is left out."""
    turns = [tuple(asked(each, requests, rate, seconds) for each in (old, fresh)) for _ in range(1 + TURNS)]
    return [(before, after) for before, after in turns[1:]]


def fresh_rows(turns: list[tuple[End, End]]) -> list[Row]:
    """Return rows of the server that has run so long beside one that was started on a copy of its data."""
    figures: list[tuple[str, str, Callable[[End], float]]] = [
        ("closed loop", "requests/s", lambda end: end[0]),
        ("p50", "ms", lambda end: end[1].p50),
        ("p99", "ms", lambda end: end[1].p99),
    ]
    rows = []
    for name, unit, of in figures:
        old, fresh = ([of(end) for end in side] for side in zip(*turns, strict=True))
        ratios = [before / after for before, after in zip(old, fresh, strict=True)]
        note = "turns " + ", ".join(f"{ratio:.2f}" for ratio in ratios)
        case = f"{name} at the end (peer: a server that was started again)"
        rows.append(Row(case, median(old), unit, median(fresh), median(ratios), note=note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--segment", type=float, default=30.0, help="Seconds that are measured together.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--events", type=float, default=1_000.0)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--workspace", type=Path)
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    publish_again(workspace)
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    versions = [each.version for each in registry.versions(MODEL)][::-1][:2]
    bodies = make_bodies(workspace, arguments.candidates)
    requests = [Request(PATH, body) for body in bodies]
    segments: list[Segment] = []
    errors: Counter[str] = Counter()
    with server_process(workspace, "--workers", str(arguments.workers)) as (port, pid):
        target = Target.of(f"http://127.0.0.1:{port}", deadline_ms=2_000)
        events = Events(port, arguments.events, bodies)
        events.start()
        closed, opened = CLOSED * arguments.segment, (1 - CLOSED) * arguments.segment
        watch = Watch(port, pid)
        faults = Faults(port, pid, versions, [target.encode(each) for each in requests])
        for number in range(max(3, round(60 * arguments.minutes / arguments.segment))):
            most = capacity(target, requests, closed)
            rate = SHARE * most
            fault = threading.Timer(FAULT_AFTER * opened, faults.next)
            fault.start()
            load = LoadTest(target, requests, seconds=opened, warm_up=0.0, rates=(rate,), seed=number, deadline=2.0)
            segments.append(watch.segment(load, most))
            fault.join()
            errors.update(segments[-1].measured.errors)
            print(number, segments[-1].line(), flush=True)
        events.stop()
        again = started_again(workspace)
        with server_process(again, "--workers", str(arguments.workers)) as (other, _):
            fresh = Target.of(f"http://127.0.0.1:{other}", deadline_ms=2_000)
            turns = in_turns(target, fresh, requests, rate, arguments.segment / 3)
        shutil.rmtree(again.folder)
    parity = checked(workspace)
    said = refusals_of([each.measured for each in segments])
    sent = sum(each.measured.requests for each in segments)
    offered = f"{len(segments)} x {opened:g} s with {closed:g} s of a closed loop before each"
    rows = [
        Row("asked", float(sent), "requests", note=offered),
        Row("not answered", float(sum(errors.values())), "requests", note="; ".join([str(dict(errors) or ""), *said])),
        *third_rows(segments),
        *fresh_rows(turns),
        Row(
            "slates that replay gives too", float(parity.slates), f"of {parity.slates + parity.unknown}",
            equal=parity.holds,
        ),
        *(Row(f"fault: {name}", float(count), "times") for name, count in faults.done.items()),
        events.row(),
    ]  # fmt: skip
    write("serving_soak", rows)
    if not parity.holds:
        raise SystemExit("What was served is not what replay gives.")


if __name__ == "__main__":
    main()
