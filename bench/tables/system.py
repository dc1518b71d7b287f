"""One table of bench/tables/__main__.py, alone in its process: ours, EmbeddingBag or FBGEMM.

python -m bench.tables.system SYSTEM KEYS FOLDER ROUNDS    writes FOLDER/SYSTEM.json and FOLDER/SYSTEM.f32
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.common import Row
from bowerbird.embedding.table import Table
from bowerbird.kernels.table_config import RowWiseAdagrad, TableConfig
from bowerbird.kernels.table_numbers import mix

DIMENSION = 16
RATE = 0.05
EPSILON = 1e-8
ASKED = 1 << 20
BATCHES = (4096, 65536)
SHAPES = ("uniform", "zipf")
FIRST = 20 * 4096
CHECKED = 20_000
FILED = 20_000_000
"""Keys up to which snapshots are measured: a larger one does not fit into memory beside its table."""

LARGE_PAGES = "memory in large pages"

Times = dict[str, list[float]]
Act = Callable[[np.ndarray], object]


def keys_of(numbers: np.ndarray) -> np.ndarray:
    return mix(numbers.astype(np.uint64) + np.uint64(1))


def large_pages() -> float:
    """Return the share of this process's memory that lies in large pages, as the system gave them."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return sizes["AnonHugePages"] / sizes["Rss"]


def nanoseconds(asked: np.ndarray, batch: int, act: Act) -> float:
    start = time.thread_time()
    for at in range(0, len(asked), batch):
        act(asked[at : at + batch])
    return (time.thread_time() - start) * 1e9 / len(asked)


def gradients_in(folder: Path) -> np.ndarray:
    return np.fromfile(folder / "gradients.f32", np.float32).reshape(-1, DIMENSION)


def numbers_in(folder: Path, shape: str) -> np.ndarray:
    return np.fromfile(folder / f"{shape}.u32", np.uint32).astype(np.int64)


def insert_all(table: Table, keys: int, batch: int = 65536) -> float:
    spent = 0.0
    for at in range(0, keys, batch):
        part = keys_of(np.arange(at, min(at + batch, keys)))
        start = time.thread_time()
        table.admit(part)
        spent += time.thread_time() - start
    return spent * 1e9 / keys


def run_ours(keys: int, folder: Path, rounds: int) -> tuple[Times, np.ndarray, list[Row]]:
    optimiser = RowWiseAdagrad(learning_rate=RATE, epsilon=EPSILON)
    config = TableConfig(dimension=DIMENSION, initial_scale=0.0, optimiser=optimiser)
    insert_all(Table(config), keys)  # fetches the memory from the machine that the next one finds
    table = Table(config)
    times: Times = {"insert": [insert_all(table, keys)], LARGE_PAGES: [large_pages()]}
    gradients = gradients_in(folder)
    out = np.empty((max(BATCHES), DIMENSION), np.float32)
    first = keys_of(numbers_in(folder, SHAPES[0]))
    for at in range(0, FIRST, 4096):
        table.update(table.find(first[at : at + 4096]), gradients[:4096])
    checked = table.take(table.find(first[:CHECKED]))
    by_key: dict[str, Act] = {
        "find": table.find,
        "take": lambda part: table.take(table.find(part), out[: len(part)]),
        "update": lambda part: table.update(table.find(part), gradients[: len(part)]),
    }
    by_row: dict[str, Act] = {
        "take rows": lambda part: table.take(part, out[: len(part)]),
        "update rows": lambda part: table.update(part, gradients[: len(part)]),
    }
    for shape in SHAPES:
        asked = keys_of(numbers_in(folder, shape))
        for acts, values in ((by_key, asked), (by_row, table.find(asked))):
            times |= measured(shape, values, acts, rounds)
    more = [*about(table), *worst_insert(table, keys)]
    return times, checked, [*more, *files(table, folder)] if keys <= FILED else more


def measured(shape: str, asked: np.ndarray, acts: dict[str, Act], rounds: int) -> Times:
    """Time the acts on one after another batch of what is asked, in turn, round after round."""
    times: Times = {f"{name} {shape} {batch}": [] for batch in BATCHES for name in acts}
    for _ in range(rounds):
        for batch in BATCHES:
            for name, act in acts.items():
                times[f"{name} {shape} {batch}"].append(nanoseconds(asked, batch, act))
    return times


def run_torch(keys: int, folder: Path, rounds: int) -> tuple[Times, np.ndarray, list[Row]]:
    """Time EmbeddingBag with sparse gradients and Adagrad: rows are given, nothing is looked up by key."""
    import torch

    torch.set_num_threads(1)
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.zeros(keys, DIMENSION).fill_(0.0), False, mode="sum", sparse=True)
    optimiser = torch.optim.Adagrad(bag.parameters(), lr=RATE)
    gradients = torch.from_numpy(gradients_in(folder))

    def look(part: np.ndarray) -> object:
        with torch.no_grad():
            return bag(torch.from_numpy(part), torch.arange(len(part)))

    def update(part: np.ndarray) -> None:
        optimiser.zero_grad()
        bag(torch.from_numpy(part), torch.arange(len(part))).backward(gradients[: len(part)])
        optimiser.step()

    times: Times = {LARGE_PAGES: [large_pages()]}
    for shape in SHAPES:
        times |= measured(shape, numbers_in(folder, shape), {"take rows": look, "update rows": update}, rounds)
    return times, np.empty(0, np.float32), []


def run_fbgemm(keys: int, folder: Path, rounds: int) -> tuple[Times, np.ndarray, list[Row]]:
    """Time FBGEMM's fused CPU table, rows given."""
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
        eps=EPSILON,
    )
    table.split_embedding_weights()[0].fill_(0.0)
    gradients = torch.from_numpy(gradients_in(folder))

    def look(part: np.ndarray) -> torch.Tensor:
        result: torch.Tensor = table(torch.from_numpy(part), torch.arange(len(part) + 1))
        return result

    def take(part: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return look(part)

    def update(part: np.ndarray) -> None:
        look(part).backward(gradients[: len(part)])

    first = numbers_in(folder, SHAPES[0])
    for at in range(0, FIRST, 4096):
        update(first[at : at + 4096])
    checked = take(first[:CHECKED]).numpy()
    times: Times = {LARGE_PAGES: [large_pages()]}
    for shape in SHAPES:
        times |= measured(shape, numbers_in(folder, shape), {"take rows": take, "update rows": update}, rounds)
    return times, checked, []


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
    again = Table.restore(path)
    rows.append(Row("restore", size / 1e6 / (time.perf_counter() - start), "MB/s", note="from the page cache, checked"))
    start = time.perf_counter()
    again.apply_delta(small)
    rows.append(Row("delta applied", len(touched) / 1e6 / (time.perf_counter() - start), "million keys/s"))
    return rows


SYSTEMS = {"ours": run_ours, "EmbeddingBag": run_torch, "FBGEMM": run_fbgemm}


def main() -> None:
    system, keys, name, rounds = sys.argv[1:]
    folder = Path(name)
    times, checked, more = SYSTEMS[system](int(keys), folder, int(rounds))
    checked.astype(np.float32).tofile(folder / f"{system}.f32")
    (folder / f"{system}.json").write_text(json.dumps({"times": times, "more": [asdict(row) for row in more]}))


if __name__ == "__main__":
    main()
