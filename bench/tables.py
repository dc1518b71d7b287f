"""Embedding tables against hash maps of pointers, EmbeddingBag and FBGEMM's CPU table, on one thread.

python -m bench.tables [--keys 10000000] [--rounds 5] [--folder FOLDER]

16 float32 per key with row-wise Adagrad. Times are of the thread's own CPU clock, nanoseconds per key: `find` (keys to
rows or pointers), `take` (keys to vectors), `update` (keys and gradients to steps, duplicates summed once), `insert`;
`take rows` and `update rows` where rows are given, as to EmbeddingBag and FBGEMM, which know no keys.
Each system has the memory to itself; answers are compared after the same first updates, before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bench.common import Row, write
from bowerbird.embedding.table import Table
from bowerbird.kernels.table_config import RowWiseAdagrad, TableConfig
from bowerbird.kernels.table_numbers import mix

DIMENSION = 16
RATE = 0.05
ASKED = 1 << 20
BATCHES = (4096, 16384, 65536)
SHAPES = ("uniform", "zipf")
CHECKED = 20_000
SOURCE = Path(__file__).parent / "peers" / "tables.cpp"
ABSL = ("absl_raw_hash_set", "absl_hash", "absl_city", "absl_low_level_hash", "absl_base", "absl_raw_logging_internal")

Times = dict[str, list[float]]


def keys_of(numbers: np.ndarray) -> np.ndarray:
    return mix(numbers.astype(np.uint64) + np.uint64(1))


def write_questions(folder: Path, keys: int) -> None:
    """Write which keys are asked for and the gradients that go with them."""
    random = np.random.default_rng(0)
    random.integers(0, keys, ASKED).astype(np.uint32).tofile(folder / "uniform.u32")
    skewed = np.exp(random.random(ASKED) * np.log(keys)).astype(np.int64) - 1
    np.minimum(skewed, keys - 1).astype(np.uint32).tofile(folder / "zipf.u32")
    random.normal(size=(max(BATCHES), DIMENSION)).astype(np.float32).tofile(folder / "gradients.f32")


def nanoseconds(asked: np.ndarray, batch: int, act: Callable[[np.ndarray], object]) -> float:
    start = time.thread_time()
    for at in range(0, len(asked), batch):
        act(asked[at : at + batch])
    return (time.thread_time() - start) * 1e9 / len(asked)


def insert_all(table: Table, keys: int, batch: int = 65536) -> float:
    spent = 0.0
    for at in range(0, keys, batch):
        part = keys_of(np.arange(at, min(at + batch, keys)))
        start = time.thread_time()
        table.admit(part)
        spent += time.thread_time() - start
    return spent * 1e9 / keys


def run_ours(keys: int, folder: Path, rounds: int) -> tuple[Times, np.ndarray, list[Row]]:
    config = TableConfig(
        dimension=DIMENSION, initial_scale=0.0, optimiser=RowWiseAdagrad(learning_rate=RATE, epsilon=1e-8)
    )
    table = Table(config)
    times: Times = {"insert": [insert_all(table, keys)]}
    gradients = np.fromfile(folder / "gradients.f32", np.float32).reshape(-1, DIMENSION)
    out = np.empty((max(BATCHES), DIMENSION), np.float32)
    checked = np.empty(0, np.float32)
    for shape in SHAPES:
        asked = keys_of(np.fromfile(folder / f"{shape}.u32", np.uint32))
        if not len(checked):
            for at in range(0, 20 * 4096, 4096):
                table.update(table.find(asked[at : at + 4096]), gradients[:4096])
            checked = table.take(table.find(asked[:CHECKED]))
        for batch in BATCHES:
            acts: dict[str, Callable[[np.ndarray], object]] = {
                "find": table.find,
                "take": lambda part: table.take(table.find(part), out[: len(part)]),
                "update": lambda part: table.update(table.find(part), gradients[: len(part)]),
            }
            for name, act in acts.items():
                case = f"{name} {shape} {batch}"
                times[case] = [nanoseconds(asked, batch, act) for _ in range(rounds)]
            given: dict[str, Callable[[np.ndarray], object]] = {
                "take rows": lambda part: table.take(part, out[: len(part)]),
                "update rows": lambda part: table.update(part, gradients[: len(part)]),
            }
            rows = table.find(asked)
            for name, act in given.items():
                case = f"{name} {shape} {batch}"
                times[case] = [nanoseconds(rows, batch, act) for _ in range(rounds)]
    return times, checked, [*about(table), *worst_insert(table, keys), *files(table, folder)]


def about(table: Table) -> list[Row]:
    stats = table.stats()
    beside = (stats.index_bytes + stats.row_bytes) / stats.keys - 4 * DIMENSION - 4
    return [
        Row("index bytes per key", stats.index_bytes / stats.keys, "bytes", note=f"load {stats.load:.2f}"),
        Row("bytes per key beside weights and state", beside, "bytes", note="index, last use, uses, version"),
    ]


def worst_insert(table: Table, keys: int, count: int = 200_000) -> list[Row]:
    """Insert single keys and time each."""
    fresh = keys_of(np.arange(keys, keys + count))
    spent = np.empty(count)
    for i in range(count):
        start = time.thread_time_ns()
        table.admit(fresh[i : i + 1])
        spent[i] = time.thread_time_ns() - start
    note = f"of {count:,}, one by one from Python; median {np.median(spent) / 1e3:.1f} µs"
    return [
        Row("single insert, 99.99th percentile", float(np.quantile(spent, 0.9999)) / 1e3, "µs", note=note),
        Row("single insert, worst", float(spent.max()) / 1e3, "µs", note=note),
    ]


def files(table: Table, folder: Path) -> list[Row]:
    """Write and read a snapshot and a delta of one key in a hundred."""
    rows = []
    path, small = folder / "snapshot", folder / "delta"
    start = time.perf_counter()
    table.snapshot(path)
    rows.append(Row("snapshot", path.stat().st_size / 1e6 / (time.perf_counter() - start), "MB/s", note="with fsync"))
    touched = np.arange(2, table.rows, 100)
    table.update(touched, np.ones((len(touched), DIMENSION), np.float32))
    start = time.perf_counter()
    table.delta(small, since=table.version)
    rows.append(Row("delta of 1 % of the keys", len(touched) / 1e6 / (time.perf_counter() - start), "million keys/s"))
    rows.append(Row("delta size", small.stat().st_size / len(touched), "bytes per key"))
    size = path.stat().st_size
    start = time.perf_counter()
    Table.restore(path)
    rows.append(Row("restore", size / 1e6 / (time.perf_counter() - start), "MB/s", note="from the page cache, checked"))
    return rows


def run_maps(keys: int, folder: Path, rounds: int) -> dict[str, tuple[Times, np.ndarray]]:
    """Compile and run the hash maps; says what is missing and goes on without them."""
    program = folder / "tables"
    compiler = shutil.which("c++")
    if compiler is None:
        print("No C++ compiler: absl and robin_map are left out.")
        return {}
    command = [compiler, "-std=c++20", "-O3", "-march=native", "-DNDEBUG", str(SOURCE), "-o", str(program)]
    built = subprocess.run([*command, *(f"-l{name}" for name in ABSL)], capture_output=True, text=True, check=False)
    if built.returncode:
        print(f"absl and robin_map are left out (apt-get install libabsl-dev robin-map-dev):\n{built.stderr[:800]}")
        return {}
    found = {}
    for name in ("absl", "robin"):
        run = [str(program), name, str(keys), str(folder), str(rounds)]
        times = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
        found[name] = (times, np.fromfile(folder / f"{name}.f32", np.float32).reshape(-1, DIMENSION))
    return found


def run_torch(keys: int, folder: Path, rounds: int) -> Times:
    """Time EmbeddingBag with sparse gradients and Adagrad: rows are given, nothing is looked up by key."""
    import torch

    torch.set_num_threads(1)
    bag = torch.nn.EmbeddingBag(keys, DIMENSION, mode="sum", sparse=True)
    optimiser = torch.optim.Adagrad(bag.parameters(), lr=RATE)
    gradients = torch.from_numpy(np.fromfile(folder / "gradients.f32", np.float32).reshape(-1, DIMENSION))
    times: Times = {}

    def look(part: np.ndarray) -> object:
        with torch.no_grad():
            return bag(torch.from_numpy(part), torch.arange(len(part)))

    def update(part: np.ndarray) -> None:
        optimiser.zero_grad()
        bag(torch.from_numpy(part), torch.arange(len(part))).backward(gradients[: len(part)])
        optimiser.step()

    for shape in SHAPES:
        rows = np.fromfile(folder / f"{shape}.u32", np.uint32).astype(np.int64)
        for batch in BATCHES:
            times[f"take rows {shape} {batch}"] = [nanoseconds(rows, batch, look) for _ in range(rounds)]
            times[f"update rows {shape} {batch}"] = [nanoseconds(rows, batch, update) for _ in range(rounds)]
    return times


def run_fbgemm(keys: int, folder: Path, rounds: int) -> Times:
    """Time FBGEMM's fused CPU table, rows given; left out, with a word, where it is not installed."""
    if importlib.util.find_spec("fbgemm_gpu") is None:
        print("FBGEMM is left out (pip install --no-deps fbgemm-gpu-cpu==1.8.0 brings it).")
        return {}
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    torch.set_num_threads(1)
    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(keys, DIMENSION, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=RATE,
        eps=1e-8,
    )
    gradients = torch.from_numpy(np.fromfile(folder / "gradients.f32", np.float32).reshape(-1, DIMENSION))
    times: Times = {}

    def look(part: np.ndarray) -> torch.Tensor:
        result: torch.Tensor = table(torch.from_numpy(part), torch.arange(len(part) + 1))
        return result

    for shape in SHAPES:
        rows = np.fromfile(folder / f"{shape}.u32", np.uint32).astype(np.int64)
        for batch in BATCHES:
            with torch.no_grad():
                times[f"take rows {shape} {batch}"] = [nanoseconds(rows, batch, look) for _ in range(rounds)]
            times[f"update rows {shape} {batch}"] = [
                nanoseconds(rows, batch, lambda part: look(part).backward(gradients[: len(part)]))
                for _ in range(rounds)
            ]
    return times


def compared(ours: Times, peers: dict[str, Times], equal: bool | None) -> list[Row]:
    rows = []
    for case, values in ours.items():
        mine = median(values)
        theirs = {name: median(times[case]) for name, times in peers.items() if case in times}
        best = min(theirs, key=theirs.__getitem__, default=None)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        note = "; ".join([spread, *(f"{name} {value:.0f}" for name, value in theirs.items())])
        if best is None:
            rows.append(Row(case, mine, "ns/key", note=note))
        else:
            rows.append(Row(case, mine, "ns/key", theirs[best], theirs[best] / mine, equal, note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; the snapshot takes 110 bytes per key"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_questions(folder, arguments.keys)
        maps = run_maps(arguments.keys, folder, arguments.rounds)
        ours, vectors, more = run_ours(arguments.keys, folder, arguments.rounds)
        equal = None
        if maps:
            equal = all(np.allclose(vectors, theirs, rtol=1e-4, atol=1e-6) for _, theirs in maps.values())
            if not equal:
                sys.exit("The hash maps' vectors differ from ours: nothing is to be compared.")
        peers = {name: times for name, (times, _) in maps.items()}
        peers["EmbeddingBag"] = run_torch(arguments.keys, folder, arguments.rounds)
        peers["FBGEMM"] = run_fbgemm(arguments.keys, folder, arguments.rounds)
    context = [
        Row("Monolith, find (published, dimension 32)", 602.0, "ns/key"),
        Row("Monolith, insert (published, dimension 32)", 783.0, "ns/key"),
    ]
    suffix = "" if arguments.keys == 10_000_000 else f"_{arguments.keys}"
    write(
        f"tables{suffix}",
        [*compared(ours, peers, equal), *more, *context],
        keys=arguments.keys,
        rounds=arguments.rounds,
    )


if __name__ == "__main__":
    main()
