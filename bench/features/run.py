"""One measurement in a process of its own: ``python -m bench.features.run ENGINE --events N ...`` prints JSON.

So that no engine sees another's memory or threads; ``measure`` starts it and reads what it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path

from bench.common import WORK
from bench.features.answers import Answers, Checksums, joined
from bench.features.log import LogShape, written
from bench.features.plan import features, numbers
from bench.features.task import Outcome, Task

ENGINES = ("ours", "duckdb", "duckdb_plain", "polars", "polars_plain")
_UNDER = shlex.split(os.environ.get("BOWERBIRD_BENCH_UNDER", ""))
"""A command that starts each process, such as ``taskset -c 1``."""
SETS: dict[str, Callable[[], list[str]]] = {"numbers": numbers, "all": lambda: list(features())}


@dataclass(frozen=True)
class Measured:
    """Seconds in all, of the processors, and inside our kernel; and the process's peak memory in MiB."""

    seconds: float
    processor: float
    kernel: float | None
    peak: float


def measure(engine: str, shape: LogShape, chosen: str, threads: int) -> Measured:
    """Time an engine on a set of features; the answers are dropped."""
    printed = _start(engine, shape, chosen, threads)
    return Measured(**json.loads(printed.splitlines()[-1]))


def checksums(engine: str, shape: LogShape, chosen: str, threads: int) -> Checksums:
    """Return digests of an engine's answers."""
    found = _kept(engine, shape, chosen, threads, "checksums")
    assert isinstance(found, Checksums)
    return found


def answers(engine: str, shape: LogShape, chosen: str, threads: int) -> Answers:
    """Return an engine's answers, every row and column."""
    found = _kept(engine, shape, chosen, threads, "answers")
    assert isinstance(found, Answers)
    return found


def _kept(engine: str, shape: LogShape, chosen: str, threads: int, what: str) -> object:
    file = WORK / f"features-{what}-{engine}.pickle"
    _start(engine, shape, chosen, threads, f"--{what}", str(file))
    found: object = pickle.loads(file.read_bytes())
    file.unlink()
    return found


def _start(engine: str, shape: LogShape, chosen: str, threads: int, *more: str) -> str:
    """Run this module in a fresh interpreter; its errors appear on this one's."""
    command = [*_UNDER, sys.executable, "-m", "bench.features.run", engine]
    command += ["--events", str(shape.events), "--set", chosen]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, "--threads", str(threads), *more], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _run(engine: str, task: Task) -> Outcome:
    name, _, variant = engine.partition("_")
    run = import_module(f"bench.features.{name}").run
    started = time.process_time()
    outcome: Outcome = run(task, plain=True) if variant == "plain" else run(task)
    return replace(outcome, processor=time.process_time() - started)


def peak_mib() -> float:
    """Return the process's highest resident memory, without that of the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--set", choices=sorted(SETS), default="numbers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checksums", type=Path, help="write digests of the answers to this file")
    parser.add_argument("--answers", type=Path, help="write the answers to this file")
    arguments = parser.parse_args()
    digests = Checksums()
    parts: list[Answers] = []
    take = digests.add if arguments.checksums else parts.append if arguments.answers else None
    names = SETS[arguments.set]()
    shape = written(LogShape(arguments.events))
    outcome = _run(arguments.engine, Task(shape, names, arguments.threads, take, arguments.answers is not None))
    if arguments.checksums:
        arguments.checksums.write_bytes(pickle.dumps(digests))
    if arguments.answers:
        arguments.answers.write_bytes(pickle.dumps(joined(parts)))
    measured = Measured(outcome.seconds, outcome.processor, outcome.kernel, peak_mib())
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
