"""Embedding tables against hash maps of pointers, EmbeddingBag and FBGEMM's CPU table, on one thread.

python -m bench.tables [--keys 10000000] [--turns 3] [--rounds 2] [--folder FOLDER]

16 float32 per key with row-wise Adagrad. Times are of the thread's own CPU clock, nanoseconds per key: `find` (keys to
rows or pointers), `take` (keys to vectors), `update` (keys and gradients to steps, duplicates summed once), `insert`;
`take rows` and `update rows` where rows are given, as to EmbeddingBag and FBGEMM, which know no keys.

Each system runs in a process of its own, one after the other, and all of them again, so many turns; in large pages as
far as the machine has them (the share is told: where files fill the memory, a process gets fewer and may take twice as
long). What is inserted is inserted twice, and the second time counts, so that no table pays for memory that a virtual
machine has yet to fetch. Answers are compared after the same first updates; a table whose answers are wrong is named
and left out (EmbeddingBag has another Adagrad, so its answers are not compared).

Hash maps are compiled for this machine, know their size before they are filled except in `insert`, sum duplicates
with a table of their own, and ask for memory 16 keys ahead. Beside these, a note tells how they do `with our
prefetch`: 48 ahead into the second-level cache, as our table does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from bench.common import Row, write
from bench.tables.system import ASKED, BATCHES, DIMENSION, LARGE_PAGES, Times

SOURCE = Path(__file__).parents[1] / "peers" / "tables.cpp"
ABSL = ("absl_raw_hash_set", "absl_hash", "absl_city", "absl_low_level_hash", "absl_base", "absl_raw_logging_internal")
WANTS_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "THP_MEM_ALLOC_ENABLE": "1"}
TUNED = " with our prefetch"
KNOWN = ", size known before"
KNOWN_CASE = "insert known size"
GROWN = {"absl": 120, "robin": 190}
"""Bytes per key that a map of pointers and its rows take while it grows: absl's, and robin_map's."""


def write_questions(folder: Path, keys: int) -> None:
    """Write which keys are asked for and the gradients that go with them."""
    random = np.random.default_rng(0)
    random.integers(0, keys, ASKED).astype(np.uint32).tofile(folder / "uniform.u32")
    skewed = np.exp(random.random(ASKED) * np.log(keys)).astype(np.int64) - 1
    np.minimum(skewed, keys - 1).astype(np.uint32).tofile(folder / "zipf.u32")
    random.normal(size=(max(BATCHES), DIMENSION)).astype(np.float32).tofile(folder / "gradients.f32")


def run_system(name: str, keys: int, folder: Path, rounds: int) -> tuple[Times, list[Row]]:
    print(name, flush=True)
    command = [sys.executable, "-m", "bench.tables.system", name, str(keys), str(folder), str(rounds)]
    subprocess.run(command, env=os.environ | WANTS_LARGE_PAGES, check=True)
    told = json.loads((folder / f"{name}.json").read_text())
    return told["times"], [Row(**row) for row in told["more"]]


def build(folder: Path, level: int) -> Path | None:
    """Compile the hash maps; says what is missing and returns None without it."""
    program = folder / f"tables{level}"
    compiler = shutil.which("c++")
    if compiler is None:
        print("No C++ compiler: absl and robin_map are left out.")
        return None
    flags = ["-std=c++20", "-O3", "-march=native", "-DNDEBUG", f"-DPREFETCH_LEVEL={level}"]
    command = [compiler, *flags, str(SOURCE), "-o", str(program), *(f"-l{name}" for name in ABSL)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode == 0:
        return program
    print(f"absl and robin_map are left out (apt-get install libabsl-dev robin-map-dev):\n{built.stderr[:800]}")
    return None


def in_turns(
    turns: int, keys: int, folder: Path, rounds: int
) -> tuple[dict[str, Times], list[Row]]:
    """Run every system once and again: the times of all turns by system, and what ours tells in the last one."""
    found: dict[str, Times] = {}
    more: list[Row] = []
    for _ in range(turns):
        turn = run_maps(keys, folder, rounds)
        turn["ours"], more = run_system("ours", keys, folder, rounds)
        turn["EmbeddingBag"], _ = run_system("EmbeddingBag", keys, folder, rounds)
        if importlib.util.find_spec("fbgemm_gpu") is not None:
            turn["FBGEMM"], _ = run_system("FBGEMM", keys, folder, rounds)
        for system, times in turn.items():
            for case, values in times.items():
                found.setdefault(system, {}).setdefault(case, []).extend(values)
    return found, more


def run_maps(keys: int, folder: Path, rounds: int) -> dict[str, Times]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    found: dict[str, Times] = {}
    for level, suffix in ((3, ""), (2, TUNED)):
        program = build(folder, level)
        for name in GROWN if program else ():
            print(name + suffix, flush=True)
            grows = level == 3 and keys * GROWN[name] < memory
            run = [str(program), name, str(keys), str(folder), str(rounds), str(int(grows))]
            wants = os.environ | WANTS_LARGE_PAGES
            done = subprocess.run(run, env=wants, stdout=subprocess.PIPE, text=True, check=True)
            found[name + suffix] = json.loads(done.stdout)
    return found


def compared(ours: Times, peers: dict[str, Times], equal: list[str]) -> list[Row]:
    rows = []
    for case, values in ours.items():
        mine = median(values)
        theirs = {
            name + KNOWN: median(times[KNOWN_CASE])
            for name, times in peers.items()
            if case == "insert" and KNOWN_CASE in times
        }
        theirs |= {name: median(times[case]) for name, times in peers.items() if case in times}
        plain = {name: value for name, value in theirs.items() if not name.endswith((TUNED, KNOWN))}
        best = min(plain, key=plain.__getitem__, default=None)
        note = "; ".join(
            [f"{min(values):.0f} to {max(values):.0f}", *(f"{name} {value:.0f}" for name, value in theirs.items())]
        )
        if best is None:
            rows.append(Row(case, mine, "ns/key", note=note))
        else:
            rows.append(Row(case, mine, "ns/key", plain[best], plain[best] / mine, best in equal or None, note))
    return rows


def in_large_pages(systems: dict[str, Times]) -> list[Row]:
    """Take the shares of memory in large pages out of the times: one who got fewer of them is slower for it."""
    shares = {name: 100 * min(times.pop(LARGE_PAGES)) for name, times in systems.items() if LARGE_PAGES in times}
    note = "; ".join(f"{name} {share:.0f}" for name, share in shares.items() if name != "ours")
    return [Row(LARGE_PAGES, shares["ours"], "%", note=note)]


def wrong_ones(folder: Path, names: list[str]) -> list[str]:
    """Return the systems whose vectors after the first updates are not ours."""
    ours = np.fromfile(folder / "ours.f32", np.float32)
    answers = {name: np.fromfile(folder / f"{name}.f32", np.float32) for name in names}
    return [name for name, theirs in answers.items() if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=3, help="of all systems, one after the other")
    parser.add_argument("--rounds", type=int, default=2, help="in each turn")
    parser.add_argument("--folder", type=Path, help="where to write; a snapshot takes 110 bytes per key")
    arguments = parser.parse_args()
    keys, turns, rounds = arguments.keys, arguments.turns, arguments.rounds
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_questions(folder, keys)
        peers, more = in_turns(turns, keys, folder, rounds)
        ours = peers.pop("ours")
        checked = [name for name in ("absl", "robin", "FBGEMM") if name in peers]
        if "FBGEMM" not in peers:
            print("FBGEMM is left out (pip install --no-deps fbgemm-gpu-cpu==1.8.0 brings it).")
        wrong = wrong_ones(folder, checked)
    if {"absl", "robin"} & set(wrong):
        sys.exit(f"The vectors of {wrong} differ from ours: nothing is to be compared.")
    peers = {name: times for name, times in peers.items() if name not in wrong}
    context = [
        Row("Monolith, find (published, dimension 32)", 602.0, "ns/key"),
        Row("Monolith, insert (published, dimension 32)", 783.0, "ns/key"),
    ]
    shares = in_large_pages({"ours": ours, **peers})
    rows = [*compared(ours, peers, checked), *shares, *more, *context]
    note = "".join(
        f"{name} is left out: after the same updates its vectors are not those of the others. " for name in wrong
    )
    if keys == 10_000_000:
        write("tables", rows, keys=keys, turns=turns, rounds=rounds, note=note)
    else:
        write(f"tables_{keys}", rows, keys=keys, turns=turns, rounds=rounds, note=note, arguments=f"--keys {keys}")


if __name__ == "__main__":
    main()
