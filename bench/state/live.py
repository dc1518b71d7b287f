"""A state that readers look at while it is written: ``python -m bench.state.live [--events 5000000]``.

A state of a million users and 200,000 items is filled, in a file that other processes map. Then, in rounds: how many
events a second it takes in batches of 100 and of 1,000; and how long it takes to assemble 30 features of 500 candidates
in one, two and four reader processes while 20,000 events a second stream in. Readers ask about 400 times a second each,
after which caches are cold; one that asks without a pause shows the same reads with caches that are warm.
The time is that of the native ``Program.read``: in the kernel, and as Python sees it, with its arrays made. Some of the
answers are kept, and compared with those of a fresh state that has the same log up to the position that the answer
names.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console

from bench.common import Row, write
from bench.features.log import LogShape
from bench.state.log import BATCH, CANDIDATES, RATE, Log, Tail, fill, free_file, plan_of_30, stream
from bowerbird import _native
from bowerbird.plan.batch import Slots
from bowerbird.plan.state import FeatureState, StateOptions

SIZES = (100, 1000)
PAUSE = 0.0025
READERS = ((1, PAUSE), (2, PAUSE), (4, PAUSE), (1, 0.0))
"""How many processes read, and how many seconds each waits between two reads."""
KEPT = 10
_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Sample:
    """One answer: what was asked, and what was read at which position."""

    time: int
    request: Slots
    candidates: npt.NDArray[np.uint64]
    answer: Any

    @property
    def lsn(self) -> int:
        """The position of the answer."""
        return int(self.answer[0])


def program_of(state: FeatureState) -> Any:
    """Return the native program of the benchmark's plan over a state."""
    return _native.Program(msgspec.to_builtins(state.plan), [state.native])


def read_until_told(path: Path, shape: LogShape, now: int, seed: int, pause: float, pipe: Connection) -> None:
    """A reader's process: attach, read until a message comes, send the times in seconds and some answers."""
    state = FeatureState.attach(path)
    program, log, generator = program_of(state), Log(state.plan, shape), np.random.default_rng(seed)
    users = generator.integers(0, shape.users, 2000)
    asked = [(log.request(int(who)), log.candidates(generator)) for who in users]
    taken: list[tuple[float, float]] = []
    samples: list[Sample] = []
    pipe.send("ready")
    while not pipe.poll(generator.exponential(pause)):
        request, candidates = asked[len(taken) % len(asked)]
        started = time.perf_counter()
        answer = program.read(now, request, candidates)
        taken.append((program.last_read_seconds(), time.perf_counter() - started))
        if len(taken) % 50 == 0 and len(samples) < KEPT:
            samples.append(Sample(now, request, candidates, answer))
    pipe.send((taken, samples))


@dataclass(frozen=True)
class Watched:
    """One round with readers: microseconds of reads [reads, 2] (in the kernel, in all) and of batches; answers kept."""

    reads: npt.NDArray[np.float64]
    applies: npt.NDArray[np.float64]
    samples: list[Sample]


class Live:
    """The state, its log, and every record that it was given."""

    def __init__(self, shape: LogShape, folder: Path, budget: int) -> None:
        self.shape = shape
        self.path = free_file(folder, "state_live")
        self.plan = plan_of_30()
        self.state = FeatureState(self.plan, StateOptions(path=str(self.path), budget=budget))
        self.log = Log(self.plan, shape)
        self.tail = Tail(self.log.events())

    def updates(self, size: int, events: int) -> float:
        """Return events a second that the state takes in batches of ``size``."""
        records = self.tail.take_all(events, size)
        started = time.perf_counter()
        for batch in records:
            self.state.apply(batch)
        return events / (time.perf_counter() - started)

    def watched(self, readers: int, pause: float, seconds: float, seed: int) -> Watched:
        """Stream events in while so many processes read."""
        records = self.tail.take_all(int(RATE * seconds), BATCH)
        now = int(records[-1].times[-1])
        context = multiprocessing.get_context("spawn")
        pipes, processes = [], []
        for number in range(readers):
            ours, theirs = context.Pipe()
            arguments = (self.path, self.shape, now, seed * 100 + number, pause, theirs)
            processes.append(context.Process(target=read_until_told, args=arguments))
            processes[-1].start()
            assert ours.recv() == "ready"
            pipes.append(ours)
        applies = stream(self.state, records)
        for pipe in pipes:
            pipe.send("stop")
        found = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
        taken = np.concatenate([np.array(times) for times, _ in found])
        return Watched(taken * 1e6, applies * 1e6, [sample for _, samples in found for sample in samples])


def is_equal(left: Any, right: Any) -> bool:
    """Whether two native answers are the same bits."""
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(is_equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def wrong(samples: list[Sample], log: Log) -> int:
    """Return how many answers differ from those of a fresh state at their position."""
    state = FeatureState(plan_of_30(), StateOptions())
    program, tail, found = program_of(state), Tail(log.events()), 0
    state.apply(log.attributes())
    for sample in sorted(samples, key=lambda sample: sample.lsn):
        while state.lsn < sample.lsn:
            state.apply(tail.take(min(1 << 17, sample.lsn - state.lsn)))
        found += not is_equal(program.read(sample.time, sample.request, sample.candidates), sample.answer)
    return found


def measured(live: Live, events: int, rounds: int, seconds: float) -> tuple[list[Row], list[Sample]]:
    """Return the rows, and the answers kept."""
    rates: dict[int, list[float]] = defaultdict(list)
    watched: dict[tuple[int, float], list[Watched]] = defaultdict(list)
    for number in range(rounds):
        for size in SIZES:
            rates[size].append(live.updates(size, events))
            _CONSOLE.print(f"  round {number + 1}: batches of {size}, {rates[size][-1]:,.0f} events/s", highlight=False)
        for turn, (readers, pause) in enumerate(READERS):
            one = live.watched(readers, pause, seconds, len(READERS) * number + turn)
            watched[readers, pause].append(one)
            kernel, whole = np.percentile(one.reads, 50, axis=0)
            said = f"{readers} readers, pause {pause:g} s: p50 {kernel:.0f} µs in the kernel, {whole:.0f} µs in all"
            _CONSOLE.print(f"  round {number + 1}: {said}", highlight=False)
    rows = [
        Row(f"updates, batches of {size:,}, nobody reads", median(found), "events/s", note=_interval(found))
        for size, found in rates.items()
    ]
    for (readers, pause), all_rounds in watched.items():
        rows += reader_rows(readers, pause, all_rounds)
    return rows, [sample for found in watched.values() for one in found for sample in one.samples]


def reader_rows(readers: int, pause: float, rounds: list[Watched]) -> list[Row]:
    """Return the rows of so many readers: medians over the rounds."""
    who = f"{readers} reader{'s' * (readers > 1)}{' without a pause' * (pause == 0)}"
    name = f"{CANDIDATES} candidates × 30 features, {who}, {RATE:,} events/s"
    rows = []
    for where, place in (("in the kernel", 0), ("from Python", 1)):
        for percent in (50, 99):
            found = [float(np.percentile(one.reads[:, place], percent)) for one in rounds]
            note = f"{_interval(found)}; {sum(len(one.reads) for one in rounds):,} reads"
            rows.append(Row(f"{name}, {where}: p{percent}", median(found), "µs", note=note))
    applies = [float(np.percentile(one.applies, 99)) for one in rounds]
    rows.append(
        Row(f"the writer's batches of {BATCH} beside them: p99", median(applies), "µs", note=_interval(applies))
    )
    return rows


def _interval(values: list[float]) -> str:
    return f"{min(values):,.4g} to {max(values):,.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000, help="how many the state is filled with")
    parser.add_argument("--updates", type=int, default=300_000, help="how many each round of updates applies")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each round's readers read")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the state's file is")
    parser.add_argument("--budget", type=int, default=12 << 30)
    given = parser.parse_args()
    more = given.rounds * (len(SIZES) * given.updates + len(READERS) * int(RATE * given.seconds))
    shape = LogShape(given.events + more, days=30 * (given.events + more) / 20_000_000)
    live = Live(shape, given.folder, given.budget)
    try:
        started = time.perf_counter()
        fill(live.state, live.log, live.tail, given.events)
        usage = live.state.usage()
        said = f"{given.events:,} events in {time.perf_counter() - started:.1f} s: {usage.memory:,} bytes"
        _CONSOLE.print(f"Filled with {said}", highlight=False)
        rows, samples = measured(live, given.updates, given.rounds, given.seconds)
        usage = live.state.usage()
    finally:
        live.path.unlink()
    different = wrong(samples, live.log)
    case = "answers equal to a fresh replay's at their position"
    rows.append(Row(case, len(samples) - different, f"of {len(samples)}", equal=different == 0))
    write("state_live", rows, filled_with=given.events, keys=usage.family_keys, bytes=usage.memory)


if __name__ == "__main__":
    main()
