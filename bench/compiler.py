"""The staging compiler against runtimes: the same weights, answers compared first, engines interleaved on one core.

    python -m bench.compiler                                  # everything, hours; needs .[bench-compiler]
    python -m bench.compiler --build --cases reference        # compile what takes long into bench/work, judge answers
    python -m bench.compiler --measure --cases reference --rows 500
    python -m bench.compiler --measure --isa avx2 --rows 500  # our kernels on a lesser instruction set
    python -m bench.compiler --roofs                          # this core's ceilings
    python -m bench.compiler --table                          # bench/out/compiler.json from what was measured

Each sitting leaves its figures in bench/out/runs/compiler, so that a run may be cut anywhere. Peers are measured on
tiled inputs, as most people deploy, split by hand, as an expert deploys, and on the graphs that the compiler cut.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.common import OUT, WORK, machine
from bench.compiler_answers import expected, judge, worst
from bench.compiler_engines import one_thread
from bench.compiler_models import Case, cases
from bench.compiler_peers import PEERS, Peer, Run
from bench.compiler_roofs import roofs
from bench.compiler_table import table
from bowerbird.compiler.explain import explain
from bowerbird.compiler.staging import Compilation, compile_module, prove
from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram

RUNS = OUT / "runs" / "compiler"
ROWS = (50, 200, 500, 2000)
ISAS = ("avx512", "avx2", "generic")
SLICE = 0.002
"""Seconds that one timing takes at least: a peer is called as often as that needs."""


@dataclass
class Timed:
    """A peer under measurement: what runs, and the seconds of one call in each turn."""

    peer: Peer
    run: Run
    worst: float
    calls: int
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for action in ("build", "measure", "roofs", "table"):
        parser.add_argument(f"--{action}", action="store_true")
    parser.add_argument("--cases", default=",".join(case.name for case in cases()))
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--isa", choices=ISAS, help="our kernels alone, on this instruction set")
    parser.add_argument(
        "--engines", default="", help="only peers whose names begin with one of these, apart by semicolons"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="for each case and number of rows")
    given = parser.parse_args()
    everything = not (given.build or given.measure or given.roofs or given.table)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(WORK / "compiler" / "torch.compile"))
    RUNS.mkdir(parents=True, exist_ok=True)
    one_thread()
    if everything or given.roofs:
        _keep("roofs", {"machine": machine(), **roofs()})
    chosen = [case for case in cases() if case.name in given.cases.split(",")]
    wanted = [each for each in given.engines.split(";") if each]
    peers = [peer for peer in PEERS if not wanted or any(peer.name.startswith(each) for each in wanted)]
    rows = [int(each) for each in given.rows.split(",")]
    for case in chosen:
        if everything or given.build:
            _build(case, peers)
        if everything or given.measure:
            for isa in (None, *ISAS) if everything else (given.isa,):
                _measure(case, peers, rows, given.seconds, isa)
    if everything or given.table:
        table(RUNS, [case.name for case in cases()])


def _compiled(case: Case) -> Compilation:
    example = {name: value.expand(4, *value.shape[1:]) for name, value in case.shape.features(4, 4).items()}
    return compile_module(case.module, example, case.shape.stages)


def _build(case: Case, peers: list[Peer]) -> None:
    """Compile a case for each peer and judge its answers; what is known of earlier builds is kept."""
    started = time.perf_counter()
    compilation = _compiled(case)
    seconds = time.perf_counter() - started
    found = explain(compilation)
    about = {
        "seconds": seconds,
        "worst": prove(case.module, compilation.program, lambda rows: case.shape.features(rows, rows)),
        "written": asdict(found.written),
        "stages": {name: asdict(cost) for name, cost in found.stages.items()},
    }
    for peer in peers:
        built = _build_peer(case, compilation, peer)
        print(f"{case.name}: {peer.name}: {built}", flush=True)
        known = _kept(f"{case.name}.build").get("peers", {})
        if "seconds" in built:
            built["seconds"] = max(built["seconds"], known.get(peer.name, {}).get("seconds", 0.0))
        _keep(f"{case.name}.build", {**about, "peers": known | {peer.name: built}})


def _build_peer(case: Case, compilation: Compilation, peer: Peer) -> dict[str, Any]:
    """Return the seconds to compile and load a peer, its bytes and its answers; or why it refused."""
    try:
        ready = peer.prepare(case, compilation.program, _folder(case, peer))
    except InputError as error:
        return {"refused": str(error)}
    return {"seconds": ready.prepared, "bytes": ready.bytes, **asdict(judge(case, ready.bind))}


def _measure(case: Case, peers: list[Peer], counts: list[int], seconds: float, isa: str | None) -> None:
    if isa is not None:
        os.environ["BOWERBIRD_ISA"] = isa
        peers = [peer for peer in peers if peer.ours and peer.engine == "native"]
    refused = {name for name, each in _kept(f"{case.name}.build")["peers"].items() if "refused" in each}
    program = _compiled(case).program
    ready = [(peer, peer.prepare(case, program, _folder(case, peer))) for peer in peers if peer.name not in refused]
    for count in counts:
        features = case.shape.features(count, count)
        exact = expected(case, features, count)
        timed = []
        with torch.no_grad():
            for peer, each in ready:
                run = each.bind(features, count)
                difference = worst(run(), exact)
                timed.append(Timed(peer, run, difference, _calls(run)))
            _interleave(timed, seconds)
        _keep(
            f"{case.name}.{count}.{isa or 'best'}",
            {
                "date": time.strftime("%Y-%m-%d"), "machine": machine(), "isa": PairProgram.isa(),
                "peers": {each.peer.name: {"worst": each.worst, "seconds": each.seconds} for each in timed},
            },
        )  # fmt: skip
        print(f"{case.name}, N = {count}, {PairProgram.isa()}: {len(timed[0].seconds)} turns", flush=True)
    os.environ.pop("BOWERBIRD_ISA", None)


def _calls(run: Run) -> int:
    run()
    started = time.perf_counter()
    run()
    return max(1, round(SLICE / (time.perf_counter() - started)))


def _interleave(timed: list[Timed], seconds: float) -> None:
    """Time all peers in turns, in an order drawn anew; an untimed call comes before, so that caches are the peer's."""
    chance = random.Random(0)
    until = time.perf_counter() + seconds
    turns = 0
    while turns < 9 or (turns < 60 and time.perf_counter() < until):
        for each in chance.sample(timed, len(timed)):
            each.run()
            began = time.perf_counter()
            for _ in range(each.calls):
                each.run()
            each.seconds.append((time.perf_counter() - began) / each.calls)
        turns += 1


def _folder(case: Case, peer: Peer) -> Path:
    return WORK / "compiler" / case.name / peer.name


def _keep(name: str, content: dict[str, Any]) -> None:
    (RUNS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _kept(name: str) -> dict[str, Any]:
    file = RUNS / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


if __name__ == "__main__":
    main()
