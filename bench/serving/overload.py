"""Goodput against offered load: one server process, open loop, from half of what it can answer to five times as much.

    python -m bench.serving.overload [--candidates 200] [--rounds 5] [--seconds 2] [--deadline-ms 200]

Serves KuaiRand with DIN on a core of its own; the load generator stands on another. Capacity is a closed loop's rate,
measured again before each open loop, since a machine that others use is not always equally fast. Goodput counts
answers within the deadline from the time that a request was meant to be sent. At the end five times the capacity for
``--last`` seconds, and right after it a light load, second by second, show how soon latency is back.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.common import OUT, Row, write
from bench.serving.latency import make_bodies
from bench.serving.served import resident_bytes, served_workspace, server_process, stand_apart
from bowerbird.declare.workspace import load_workspace
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest

LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
CALM = 0.5
CONNECTIONS = 512


@dataclass(frozen=True)
class Found:
    """What one offered load showed in each round, and its goodput's share of the capacity just before and after."""

    load: float
    runs: list[Measured]
    shares: list[float]

    def median(self, figure: str) -> float:
        return median(getattr(each, figure) for each in self.runs)

    def row(self) -> Row:
        """Return goodput beside the capacity that was measured right before it."""
        errors: Counter[str] = Counter()
        for each in self.runs:
            errors.update(each.errors)
        asked = sum(each.requests for each in self.runs)
        notes = [f"p50 {self.median('p50'):.1f} ms, p99 {self.median('p99'):.1f} ms"]
        notes += [f"{count / asked:.1%} {kind}" for kind, count in errors.items()]
        notes.append(f"rounds {', '.join(f'{each:.2f}' for each in self.shares)}")
        notes += sorted({each.bottleneck for each in self.runs if each.bottleneck})
        offered = self.median("offered")
        fits = min(1.0, self.load)
        return Row(
            f"{self.load:g} of capacity offered: goodput", self.median("goodput"), "requests/s",
            offered if fits < 1.0 else self.median("goodput") / median(self.shares), median(self.shares) / fits,
            note="; ".join(notes),
        )  # fmt: skip


def plot(found: list[Found], deadline_ms: float, file: Path) -> None:
    """Draw goodput and percentiles over offered load."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    loads = [each.load for each in found]
    left.plot(loads, [median(each.shares) for each in found], "o-")
    left.plot([0, 1, max(loads)], [0, 1, 1], "--", color="grey", label="all that fits")
    left.set(xlabel="offered / capacity", ylabel=f"answered within {deadline_ms:g} ms / capacity", ylim=(0, None))
    left.legend()
    right.plot(loads, [each.median("p50") for each in found], "o-", label="p50")
    right.plot(loads, [each.median("p99") for each in found], "o-", label="p99")
    right.axhline(deadline_ms, color="grey", linestyle="--", label="deadline")
    right.set(xlabel="offered / capacity", ylabel="ms, answered requests", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--last", type=float, default=10.0)
    parser.add_argument("--deadline-ms", type=float, default=200.0)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    requests = [Request("/v1/scenes/feed/score", body) for body in make_bodies(workspace, arguments.candidates)]
    cores = stand_apart(arguments.workers)
    with server_process(workspace, "--workers", str(arguments.workers), cores=cores) as (port, pid):
        target = Target.of(f"http://127.0.0.1:{port}", deadline_ms=arguments.deadline_ms)

        def run(seconds: float, warm_up: float = 0.5, **more: object) -> Measured:
            test = LoadTest(
                target, requests, seconds=seconds, warm_up=warm_up, connections=CONNECTIONS,
                deadline=arguments.deadline_ms / 1e3, timeout=5.0, **more,  # type: ignore[arg-type]
            )  # fmt: skip
            return test.run()[0]

        def capacity() -> float:
            return run(0.5 * arguments.seconds, 0.2, closed=(4,)).answered

        capacities = [run(arguments.seconds, closed=(4,)).answered]
        memory = resident_bytes(pid)
        found = [Found(load, [], []) for load in sorted(arguments.loads)]
        for number in range(arguments.rounds):
            for each in found:
                before = capacity()
                one = run(arguments.seconds, rates=(each.load * before,), seed=number)
                capacities.append(before)
                each.runs.append(one)
                each.shares.append(one.goodput / (0.5 * (before + capacity())))
        usual = median(capacities)
        calm = run(arguments.seconds, rates=(CALM * usual,))
        run(arguments.last, rates=(max(LOADS) * usual,))
        after = [run(1.0, 0.0, rates=(CALM * usual,), seed=number) for number in range(3)]
        grown = resident_bytes(pid) - memory
    rows = [Row("capacity, closed loop of 4 connections", usual, "requests/s"), *(each.row() for each in found)]
    rows.append(Row(f"{CALM:g} of capacity before {arguments.last:g} s of overload: p99", calm.p99, "ms"))
    rows += [
        Row(f"{CALM:g} of capacity, second {second} after it: p99", one.p99, "ms", note=str(one.errors or ""))
        for second, one in enumerate(after, 1)
    ]
    rows.append(Row("memory gained by all of it", grown / 2**20, "MiB"))
    write("serving_overload", rows)
    plot(found, arguments.deadline_ms, OUT / "serving_overload.png")


if __name__ == "__main__":
    main()
