"""Snapshots and recovery: ``python -m bench.state.recovery [--events 5000000] [--tail 10000000] [--folder FOLDER]``.

A state is filled; then, in rounds, events stream in at 20,000 a second, and after some seconds a snapshot is written
beside: its size and seconds, and what the writer's batches take before and during it. The last snapshot is restored,
from a file that the page cache has let go of, and the log's tail is applied, with one thread and two; what the
recovered state reads must be what the state reads that never stopped, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from rich.console import Console

from bench.common import WORK, Row, write
from bench.features.log import LogShape
from bench.state.live import is_equal, program_of
from bench.state.log import BATCH, RATE, Log, Tail, fill, plan_of_30, stream
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.state import FeatureState, StateOptions

THREADS = (1, 2)
TAIL_BATCH = 1 << 16
LOOKS = 200
_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Written:
    """A snapshot beside the writer: seconds, bytes, and the seconds that batches took before and during it."""

    seconds: float
    size: int
    before: npt.NDArray[np.float64]
    during: npt.NDArray[np.float64]


def written(state: FeatureState, tail: Kept, file: Path, seconds: float) -> Written:
    """Stream events in for ``seconds``, then for as long as a snapshot is written."""
    before = stream(state, tail.take_all(int(RATE * seconds), BATCH))
    took: list[float] = []

    def snapshot() -> None:
        started = time.perf_counter()
        state.snapshot(file)
        took.append(time.perf_counter() - started)

    writer = threading.Thread(target=snapshot)
    writer.start()
    during = []
    while writer.is_alive():
        during.append(stream(state, tail.take_all(RATE // 20, BATCH)))
    writer.join()
    return Written(took[0], file.stat().st_size, before, np.concatenate(during))


def let_go(file: Path) -> None:
    """Ask the page cache to forget a file."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_rate(file: Path) -> float:
    """Return the bytes a second at which the disk gives a file."""
    let_go(file)
    started, size = time.perf_counter(), 0
    with file.open("rb", buffering=0) as stream_of:
        while block := stream_of.read(1 << 22):
            size += len(block)
    return size / (time.perf_counter() - started)


@dataclass(frozen=True)
class Recovered:
    """Seconds of restoring, and of applying the tail; how many reads differ from the state that never stopped."""

    restoring: float
    applying: float
    different: int


def recovered(file: Path, records: list[RecordBatch], threads: int, whole: FeatureState, log: Log) -> Recovered:
    """Restore a snapshot, apply the log from its position on, and compare."""
    let_go(file)
    state = FeatureState(whole.plan, StateOptions(threads=threads, versioned=True))
    started = time.perf_counter()
    state.restore(file)
    restored = time.perf_counter()
    for batch in records:
        state.apply(batch)
    ended = time.perf_counter()
    assert state.lsn == whole.lsn >= state.restored_to
    return Recovered(restored - started, ended - restored, differences(state, whole, log, int(records[-1].times[-1])))


def differences(left: FeatureState, right: FeatureState, log: Log, now: int) -> int:
    """Return how many reads of 500 candidates differ."""
    generator, ours, theirs, found = np.random.default_rng(5), program_of(left), program_of(right), 0
    for who in generator.integers(0, log.shape.users, LOOKS):
        asked = (now, log.request(int(who)), log.candidates(generator))
        found += not is_equal(ours.read(*asked), theirs.read(*asked))
    return found


class Kept:
    """A tail that remembers what it gave, as a log does."""

    def __init__(self, tail: Tail, lsn: int) -> None:
        self._tail = tail
        self._first = lsn
        self._given: list[RecordBatch] = []

    def take_all(self, events: int, size: int) -> list[RecordBatch]:
        """Return the next records."""
        taken = self._tail.take_all(events, size)
        self._given += taken
        return taken

    def since(self, lsn: int) -> list[RecordBatch]:
        """Return the records from a position on, in large batches."""
        slots = np.concatenate([batch.slots for batch in self._given], axis=1)[:, lsn - self._first :]
        types = np.concatenate([batch.types for batch in self._given])[lsn - self._first :]
        times = np.concatenate([batch.times for batch in self._given])[lsn - self._first :]
        bounds = range(0, len(types), TAIL_BATCH)
        return [
            RecordBatch(
                types[at : at + TAIL_BATCH],
                times[at : at + TAIL_BATCH],
                np.ascontiguousarray(slots[:, at : at + TAIL_BATCH]),
            )
            for at in bounds
        ]


def snapshot_rows(found: list[Written]) -> list[Row]:
    """Return the rows of the snapshots: medians over the rounds."""
    seconds = [one.seconds for one in found]
    rows = [
        Row("snapshot: size", found[-1].size / 1e6, "MB"),
        Row(f"snapshot beside {RATE:,} events/s", median(seconds), "s", note=_interval(seconds)),
    ]
    for name, batches in (("before", [one.before for one in found]), ("during", [one.during for one in found])):
        for percent in (50, 99, 100):
            taken = [float(np.percentile(each, percent)) * 1e6 for each in batches]
            shown = "longest" if percent == 100 else f"p{percent}"
            rows.append(
                Row(f"writer's batches of {BATCH} {name} it: {shown}", median(taken), "µs", note=_interval(taken))
            )
    return rows


def recovery_rows(found: dict[int, list[Recovered]], events: int) -> list[Row]:
    """Return the rows of the recoveries: medians over the rounds."""
    rows = []
    for threads, rounds in found.items():
        wrong = sum(one.different for one in rounds)
        name = f"{threads} thread{'s' * (threads > 1)}"
        for case, taken in (
            ("restore", [one.restoring for one in rounds]),
            (f"apply a tail of {events / 1e6:.3g}M events", [one.applying for one in rounds]),
            ("recovery in all", [one.restoring + one.applying for one in rounds]),
        ):
            rows.append(Row(f"{case}, {name}", median(taken), "s", equal=wrong == 0, note=_interval(taken)))
    return rows


def _interval(values: list[float]) -> str:
    return f"{min(values):,.4g} to {max(values):,.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000, help="how many the state is filled with")
    parser.add_argument("--tail", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of streaming before each snapshot")
    parser.add_argument("--folder", type=Path, default=WORK, help="where snapshots are written")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    events = given.events + given.tail + int(given.rounds * RATE * (given.seconds + 60))
    shape = LogShape(events, days=30 * events / 20_000_000)
    log = Log(plan_of_30(), shape)
    state, tail = FeatureState(plan_of_30(), StateOptions(versioned=True)), Tail(log.events())
    fill(state, log, tail, given.events)
    _CONSOLE.print(f"Filled with {given.events:,} events: {state.usage().memory:,} bytes", highlight=False)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        file = Path(folder) / "snapshot"
        snapshots: list[Written] = []
        for number in range(given.rounds):
            kept = Kept(tail, state.lsn)
            snapshots.append(written(state, kept, file, given.seconds))
            said = f"{snapshots[-1].seconds:.2f} s, {snapshots[-1].size / 1e6:,.0f} MB"
            _CONSOLE.print(f"  round {number + 1}: snapshot {said}", highlight=False)
        probe = FeatureState(state.plan, StateOptions())
        probe.restore(file)
        start = probe.lsn
        del probe
        for batch in kept.take_all(given.tail - (state.lsn - start), TAIL_BATCH):
            state.apply(batch)
        records = kept.since(start)
        found: dict[int, list[Recovered]] = {threads: [] for threads in THREADS}
        rates = []
        for number in range(given.rounds):
            rates.append(read_rate(file) / 1e6)
            for threads in THREADS:
                one = recovered(file, records, threads, state, log)
                found[threads].append(one)
                said = f"{threads} threads: restore {one.restoring:.2f} s, tail {one.applying:.2f} s"
                _CONSOLE.print(f"  round {number + 1}: {said}", highlight=False)
    rows = [*snapshot_rows(snapshots), Row("the disk's reading", median(rates), "MB/s", note=_interval(rates))]
    write("state_recovery", rows + recovery_rows(found, sum(len(batch) for batch in records)), filled_with=given.events)


if __name__ == "__main__":
    main()
