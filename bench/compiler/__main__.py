"""The staging compiler against runtimes: the same weights, answers compared first, engines interleaved on one core.

    python -m bench.compiler                                  # everything, hours; needs .[bench-compiler]
    python -m bench.compiler --build --cases reference        # compile what takes long into bench/work, judge answers
    python -m bench.compiler --measure --cases reference --rows 500
    python -m bench.compiler --measure --isa avx2 --rows 500  # our kernels on a lesser instruction set
    python -m bench.compiler --amx                            # tile registers against vectors, from such sittings
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
from typing import Any

import torch

from bench.common import OUT, WORK, machine
from bench.compiler.answers import expected, judge, worst
from bench.compiler.engines import one_thread
from bench.compiler.models import Case, cases
from bench.compiler.peers import PEERS, Peer, Ready, Run
from bench.compiler.roofs import roofs
from bench.compiler.table import amx_table, table
from bowerbird.compiler.explain import explain
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.operations import Input
from bowerbird.compiler.staging import compile_module, prove
from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram

RUNS = OUT / "runs" / "compiler"
ROWS = (50, 200, 500, 2000)
ISAS = ("amx", "avx512_bf16", "avx512", "avx2", "generic")
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
    for action in ("build", "measure", "roofs", "table", "amx"):
        parser.add_argument(f"--{action}", action="store_true")
    parser.add_argument("--cases", default=",".join(case.name for case in cases()))
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--isa", choices=ISAS, help="our kernels alone, on this instruction set")
    parser.add_argument(
        "--engines", default="", help="only peers whose names begin with one of these, apart by semicolons"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="for each case and number of rows")
    given = parser.parse_args()
    everything = not (given.build or given.measure or given.roofs or given.table or given.amx)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(WORK / "compiler" / "torch.compile"))
    RUNS.mkdir(parents=True, exist_ok=True)
    one_thread()
    if everything or given.roofs:
        _keep("roofs", {"machine": machine(), **roofs()})
    chosen = [case for case in cases() if case.name in given.cases.split(",")]
    wanted = [each for each in given.engines.split(";") if each]
    peers = [peer for peer in PEERS if not wanted or any(peer.name.startswith(each) for each in wanted)]
    rows = [int(each) for each in given.rows.split(",")]
    lesser = ISAS[ISAS.index(PairProgram.isa()) + 1 :]
    for isa in (None, *lesser) if everything else (given.isa,):
        if isa is not None:
            os.environ["BOWERBIRD_ISA"] = isa
            peers = [peer for peer in PEERS if peer.engine == "native"]
        for case in chosen:
            bench = Bench(case, peers)
            if isa is None and (everything or given.build):
                bench.build()
            if everything or given.measure:
                bench.measure(rows, given.seconds)
    if everything or given.table:
        table(RUNS, [case.name for case in cases()])
    if given.amx:
        amx_table(RUNS, [case.name for case in cases()])


class Bench:
    """One case: its staged program, and the peers that were prepared so far."""

    def __init__(self, case: Case, peers: list[Peer]) -> None:
        self.case, self.peers = case, peers
        started = time.perf_counter()
        example = {name: value.expand(4, *value.shape[1:]) for name, value in case.shape.features(4, 4).items()}
        self.compilation = compile_module(case.module, example, case.shape.stages)
        self.seconds = time.perf_counter() - started
        self._ready: dict[str, Ready] = {}

    def build(self) -> None:
        """Compile the case for each peer and judge its answers; what is known of other peers is kept."""
        found = explain(self.compilation)
        about = {
            "seconds": self.seconds,
            "worst": prove(
                self.case.module, self.compilation.program, lambda rows: self.case.shape.features(rows, rows)
            ),
            "written": asdict(found.written),
            "stages": {name: asdict(cost) for name, cost in found.stages.items()},
            "read": [read(self.compilation.written, True), read(self.compilation.program.pair, False)],
        }
        _keep(f"{self.case.name}.build", {**about, "peers": self._known()})
        for peer in self.peers:
            known = self._known()
            try:
                ready = self._prepared(peer)
            except InputError as error:
                built: dict[str, Any] = {"refused": str(error)}
            else:
                seconds = known.get(peer.name, {}).get("seconds", ready.prepared)
                built = {"seconds": seconds, "bytes": ready.bytes, **asdict(judge(self.case, ready.bind))}
            print(f"{self.case.name}: {peer.name}: {built}", flush=True)
            _keep(f"{self.case.name}.build", {**about, "peers": known | {peer.name: built}})

    def measure(self, counts: list[int], seconds: float) -> None:
        """Time the peers that did not refuse, for each number of candidates."""
        known = self._known()
        ready = [(peer, self._prepared(peer)) for peer in self.peers if "refused" not in known.get(peer.name, {})]
        for count in counts:
            timed = self._timed(ready, count, seconds)
            content = {
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine(),
                "isa": PairProgram.isa(),
                "peers": {
                    each.peer.name: {"worst": each.worst, "seconds": [float(f"{one:.4g}") for one in each.seconds]}
                    for each in timed
                },
            }
            _keep(f"{self.case.name}.{count}.{os.environ.get('BOWERBIRD_ISA', 'best')}", content)
            print(f"{self.case.name}, N = {count}, {PairProgram.isa()}: {len(timed[0].seconds)} turns", flush=True)

    def _timed(self, ready: list[tuple[Peer, Ready]], count: int, seconds: float) -> list[Timed]:
        features = self.case.shape.features(count, count)
        exact = expected(self.case, features, count)
        with torch.no_grad():
            runs = [(peer, each.bind(features, count)) for peer, each in ready]
            timed = [Timed(peer, run, worst(run(), exact), _calls(run)) for peer, run in runs]
            _interleave(timed, seconds)
        return timed

    def _known(self) -> dict[str, Any]:
        known: dict[str, Any] = _kept(f"{self.case.name}.build").get("peers", {})
        return known

    def _prepared(self, peer: Peer) -> Ready:
        if peer.name not in self._ready:
            folder = WORK / "compiler" / self.case.name / peer.name
            self._ready[peer.name] = peer.prepare(self.case, self.compilation.program, folder)
        return self._ready[peer.name]


def read(graph: RowGraph, shared: bool) -> int:
    """Return the bytes of inputs that are a candidate's own, or with what all share where each has a copy."""
    inputs = [node for node in graph.nodes() if isinstance(node.operation, Input)]
    return sum(node.bytes for node in inputs if shared or not node.shared)


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


def _keep(name: str, content: dict[str, Any]) -> None:
    (RUNS / f"{name}.json").write_text(json.dumps(content) + "\n")


def _kept(name: str) -> dict[str, Any]:
    file = RUNS / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


if __name__ == "__main__":
    main()
