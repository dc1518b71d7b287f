"""Goodput against offered load: one server process, open loop, from half of what it can answer to five times as much.

    python -m bench.serving_overload [--candidates 200] [--seconds 6] [--deadline-ms 200] [--workspace FOLDER]

Serves KuaiRand with DIN; capacity is a closed loop's rate. Goodput counts answers within the deadline from the time
that a request was meant to be sent. Afterwards the same light load as at first shows how soon latency is back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.common import OUT, Row, write
from bench.latency import make_bodies
from bench.served import resident_bytes, served_workspace, server_process, stand_apart
from bowerbird.declare.workspace import load_workspace
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest

LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
AFTER = "0.5 (after)"


def plot(capacity: float, found: dict[float, Measured], deadline_ms: float, file: Path) -> None:
    """Draw goodput and the 99th percentile over offered load."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    loads = sorted(found)
    left.plot([load * capacity for load in loads], [found[load].goodput for load in loads], "o-")
    left.plot([0, capacity, max(loads) * capacity], [0, capacity, capacity], "--", color="grey", label="all that fits")
    left.set(xlabel="offered, requests/s", ylabel=f"answered within {deadline_ms:g} ms, requests/s", ylim=(0, None))
    left.legend()
    right.plot(loads, [found[load].p50 for load in loads], "o-", label="p50")
    right.plot(loads, [found[load].p99 for load in loads], "o-", label="p99")
    right.axhline(deadline_ms, color="grey", linestyle="--", label="deadline")
    right.set(xlabel="offered / capacity", ylabel="ms, answered requests", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--deadline-ms", type=float, default=200.0)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    bodies = make_bodies(workspace, arguments.candidates)
    requests = [Request("/v1/scenes/feed/score", body) for body in bodies]
    cores = stand_apart(arguments.workers)
    with server_process(workspace, "--workers", str(arguments.workers), cores=cores) as (port, pid):
        target = Target.of(f"http://127.0.0.1:{port}", deadline_ms=arguments.deadline_ms)

        def run(**more: object) -> Measured:
            test = LoadTest(
                target, requests, seconds=arguments.seconds, warm_up=1.0, connections=512,
                deadline=arguments.deadline_ms / 1e3, timeout=5.0, **more,  # type: ignore[arg-type]
            )  # fmt: skip
            return test.run()[0]

        capacity = run(closed=(4,)).answered
        memory = resident_bytes(pid)
        found = {load: run(rates=(load * capacity,)) for load in arguments.loads}
        after = run(rates=(LOADS[0] * capacity,))
        grown = resident_bytes(pid) - memory
    peak = max(each.goodput for each in found.values())
    rows = [Row("capacity, closed loop", capacity, "requests/s")]
    for load, each in [*found.items(), (AFTER, after)]:
        note = ", ".join(f"{count} {kind}" for kind, count in each.errors.items())
        rows += [
            Row(f"{load} of capacity: goodput", each.goodput, "requests/s", peak, each.goodput / peak, note=note),
            Row(f"{load} of capacity: p50", each.p50, "ms"),
            Row(f"{load} of capacity: p99", each.p99, "ms", note=each.bottleneck),
        ]
    rows.append(Row("memory gained meanwhile", grown / 2**20, "MiB"))
    write("serving_overload", rows)
    plot(capacity, found, arguments.deadline_ms, OUT / "serving_overload.png")


if __name__ == "__main__":
    main()
