"""A replay in 16 partitions of the keys, joined: ``python -m bench.state.partitions [--events 5000000] [--rounds 3]``.

Every partition is a process of its own that reads the whole log, keeps the state of its keys and gives what they hold
to the reads; the parts are joined by row and must be the single replay's features, bit for bit. Then the cost:
processor seconds of all partitions against those of the single replay, with and without the decoding that each repeats.
Partitions take turns, so that none waits for another's core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from bench.common import Row, write
from bench.features.log import EXPOSURE, LogShape, written
from bench.features.plan import compiled, features
from bench.state.log import Log
from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.engine import FeatureState, NativeEngine, StateOptions
from bowerbird.plan.parts import PartColumns, join_sequences, join_values
from bowerbird.plan.read import PlanReader

PARTS = 16
_ROWS = 1 << 16
_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Cost:
    """Processor seconds of one replay or partition: in all, and inside the engine."""

    whole: float
    kernel: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.whole + other.whole, self.kernel + other.kernel)


class Replay:
    """One engine, or one partition's, that replays the log piece by piece and counts what that costs."""

    def __init__(self, shape: LogShape, part: int, parts: int) -> None:
        plan = compiled(list(features()))
        self._log = Log(plan, shape)
        self._engine = NativeEngine(plan, StateOptions(part=part, parts=parts))
        self._whole = self._kernel = 0.0
        self._pieces = self._read()
        self.read_times = np.empty(0, np.int64)
        self._engine.apply(self._log.attributes())

    @property
    def cost(self) -> Cost:
        """What the pieces have cost so far."""
        return Cost(self._whole, self._kernel)

    def _read(self) -> Iterator[tuple[RecordBatch, ReadBatch]]:
        for batch in pq.ParquetFile(self._log.shape.log).iter_batches(_ROWS):
            records = self._log.encoded(pa.table(batch))
            shown = np.flatnonzero(batch["kind"].to_numpy() == EXPOSURE)
            slots = np.ascontiguousarray(records.slots[:, shown])
            yield records, ReadBatch(shown + self._engine.lsn, records.times[shown], slots)

    def whole(self) -> FeatureBlock | None:
        """Replay the next piece by one engine; None at the end."""
        found = self._next(part=False)
        assert found is None or isinstance(found, FeatureBlock)
        return found

    def part(self) -> PartColumns | None:
        """Replay the next piece by one partition; None at the end."""
        found = self._next(part=True)
        assert found is None or isinstance(found, PartColumns)
        return found

    def _next(self, part: bool) -> FeatureBlock | PartColumns | None:
        started = time.process_time()
        piece = next(self._pieces, None)
        if piece is None:
            return None
        decoded = time.process_time()
        found = self._engine.replay_part(*piece) if part else self._engine.replay(*piece)
        ended = time.process_time()
        self._whole += ended - started
        self._kernel += ended - decoded
        self.read_times = piece[1].times
        return found


def serve_part(shape: LogShape, part: int, pipe: Connection) -> None:
    """A partition's process: for each ``keep`` received, replay a piece and send it, or only whether there was one."""
    replay = Replay(shape, part, PARTS)
    pipe.send("ready")
    while (keep := pipe.recv()) is not None:
        columns = replay.part()
        pipe.send(columns if keep else columns is not None)
    pipe.send(replay.cost)


class Partitions:
    """The partitions' processes, asked one after another."""

    def __init__(self, shape: LogShape) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for part in range(PARTS):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            self._processes.append(context.Process(target=serve_part, args=(shape, part, theirs)))
            self._processes[-1].start()
            assert ours.recv() == "ready"

    def pieces(self) -> list[PartColumns] | None:
        """Return what every partition gives to the next piece; None at the end."""
        found = [_asked(pipe, True) for pipe in self._pipes]
        return [each for each in found if isinstance(each, PartColumns)] if found[0] is not None else None

    def run(self) -> None:
        """Replay everything, part after part; drop the columns."""
        for pipe in self._pipes:
            while _asked(pipe, False):
                pass

    def stop(self) -> Cost:
        """End the processes; return what they cost together."""
        total = Cost(0.0, 0.0)
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            cost = pipe.recv()
            assert isinstance(cost, Cost)
            total += cost
            process.join()
        return total


def _asked(pipe: Connection, keep: bool) -> object:
    pipe.send(keep)
    answer: object = pipe.recv()
    return answer


def compared(shape: LogShape) -> tuple[int, float]:
    """Return how many rows were joined, and the seconds that joining took; raises SystemExit where one differs."""
    single, partitions = Replay(shape, 0, 1), Partitions(shape)
    plan = compiled(list(features()))
    reader, rows, seconds = PlanReader(plan, [FeatureState(plan)]), 0, 0.0
    while (block := single.whole()) is not None:
        parts = partitions.pieces()
        assert parts is not None
        started = time.process_time()
        sequences = join_sequences(parts, len(single.read_times))
        joined = reader.finish(join_values(parts), single.read_times, sequences)
        seconds += time.process_time() - started
        different = [name for name, left, right in _columns(block, joined) if left.tobytes() != right.tobytes()]
        if different:
            raise SystemExit(f"Joined partitions differ from the single replay in {', '.join(different)}.")
        rows += len(single.read_times)
    partitions.stop()
    return rows, seconds


def _columns(left: FeatureBlock, right: FeatureBlock) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for kind in ("categories", "numbers"):
        for name, column in getattr(left, kind).items():
            yield name, column, getattr(right, kind)[name]
    for name, ragged in left.sequences.items():
        other: Ragged = right.sequences[name]
        yield name, ragged.offsets, other.offsets
        yield f"{name}.age", ragged.age, other.age
        for field, column in ragged.fields.items():
            yield f"{name}.{field}", column, other.fields[field]


def serve_single(shape: LogShape, pipe: Connection) -> None:
    """The single replay's process: send what it cost."""
    replay = Replay(shape, 0, 1)
    while replay.whole() is not None:
        pass
    pipe.send(replay.cost)


def single_cost(shape: LogShape) -> Cost:
    """Return what one replay costs, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_single, args=(shape, theirs))
    process.start()
    cost = ours.recv()
    process.join()
    assert isinstance(cost, Cost)
    return cost


def parts_cost(shape: LogShape) -> Cost:
    """Return what all partitions cost together."""
    partitions = Partitions(shape)
    partitions.run()
    return partitions.stop()


def rows_of(case: str, singles: list[float], parts: list[float]) -> Row:
    """Return the row of one kind of processor seconds; the ratio is the median of the rounds' ratios."""
    ratios = [part / single for part, single in zip(parts, singles, strict=True)]
    note = f"peer: the single replay; ratio {min(ratios):.2f} to {max(ratios):.2f}"
    return Row(case, median(parts), "processor s", peer=median(singles), ratio=median(ratios), equal=True, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    shape = written(LogShape(given.events))
    _CONSOLE.print(f"Comparing {given.events:,} events")
    rows, joining = compared(shape)
    singles: list[Cost] = []
    parts: list[Cost] = []
    for number in range(given.rounds):
        singles.append(single_cost(shape))
        parts.append(parts_cost(shape))
        said = f"single {singles[-1].whole:.1f} s, {PARTS} parts {parts[-1].whole:.1f} s of processors"
        _CONSOLE.print(f"  round {number + 1}: {said}", highlight=False)
    case = f"{given.events / 1e6:.3g}M events, 24 features, {PARTS} partitions"
    write(
        "state_partitions",
        [
            rows_of(f"{case}: engines", [cost.kernel for cost in singles], [cost.kernel for cost in parts]),
            rows_of(f"{case}: decoding, too", [cost.whole for cost in singles], [cost.whole for cost in parts]),
            Row(f"joining {rows:,} rows", joining, "processor s", equal=True),
        ],
    )


if __name__ == "__main__":
    main()
