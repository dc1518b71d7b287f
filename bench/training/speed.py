"""Training speed: ours, FuxiCTR 2.3.10 as shipped and a plain PyTorch loop, interleaved, with equal settings.

    python -m bench.training.speed                          # DCNv2 on Frappe and DIN on KuaiRand, 2 threads and 1
    python -m bench.training.speed --cases frappe --threads 1 --repeats 3 --sides ours plain
    python -m bench.training.speed --profile                # where a step's time goes in ours

Samples a second of training steps at batch 4096: reading, shuffling and every update are counted, evaluations are not.
Each repetition trains every side a fixed number of epochs in a process of its own, one side after another; test AUC
of the epoch that is best on validation stands beside. The ceiling is what PyTorch's matrix products of the textbook's
shapes allow on this machine; a step that leaves out what is not there, events of short histories say, may exceed it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bench.common import OUT, Row, write
from bench.peers.fuxictr_call import PEER
from bench.training.cases import CASES, Case, Measured, train_loop, train_ours, train_peer
from bench.training.frappe_data import CAVEAT
from bench.training.frappe_settings import BATCH
from bench.training.gemm import flops, step_seconds
from bench.training.profile import profile_steps

_EQUAL_AUC = 0.003
"""Test AUC of so few epochs differs by this much from seed to seed."""
SIDES = ("ours", "plain", "fuxictr")


@dataclass(frozen=True)
class _Side:
    """What one repetition's process trains."""

    case: str
    side: str
    epochs: int
    seed: int
    threads: int


def train(side: _Side) -> Measured:
    """Train one side here."""
    case = CASES[side.case]
    if side.side == "ours":
        return train_ours(case, side.epochs, side.seed, side.threads)
    if side.side == "fuxictr":
        return train_peer(case, side.epochs, side.seed, side.threads)
    return train_loop(case, side.side.removeprefix("plain "), side.epochs, side.seed, side.threads)


def _in_process(side: _Side) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        environment = os.environ | {"OMP_NUM_THREADS": str(side.threads)}
        command = [sys.executable, "-W", "ignore", "-m", "bench.training.speed", "--one", json.dumps(asdict(side))]
        subprocess.run([*command, "--answer", str(answer)], env=environment, check=True)
        return Measured(**json.loads(answer.read_text()))


def _sides(case: Case, wanted: list[str]) -> list[str]:
    plain = [f"plain {variant}" for variant in case.plain_options]
    return [side for name in wanted for side in (plain if name == "plain" else [name])]


def _measure(case: Case, arguments: argparse.Namespace, threads: int) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = defaultdict(list)
    for repeat in range(arguments.repeats):
        for side in _sides(case, arguments.sides):
            measured = _in_process(_Side(case.name, side, arguments.epochs, repeat, threads))
            found[side].append(measured)
            rates = " ".join(f"{rate:,.0f}" for rate in measured.rates)
            print(f"{case.name} {threads} thread(s) {side}: {rates} samples/s, AUC {measured.auc:.4f}", flush=True)
    return found


def _median(runs: list[Measured]) -> float:
    return statistics.median(rate for run in runs for rate in run.rates)


def _rows(case: Case, threads: int, found: dict[str, list[Measured]], epochs: int) -> Iterator[Row]:
    if "ours" not in found:
        return
    ours = _median(found["ours"])
    torch.set_num_threads(threads)
    floor = min(step_seconds(case.layers, dtype) for dtype in (torch.float32, torch.bfloat16))
    ceiling = flops(case.layers) / floor / 1e9
    notes = [_described("ours", found["ours"], epochs)]
    notes.append(f"{100 * floor * ours / BATCH:.0f}% of the ceiling of {ceiling:.0f} GFLOP/s of such products")
    others = [side for side in found if side != "ours"]
    caveat = [CAVEAT] if case.name == "frappe" else []
    for side in others or ["ours"]:
        peer = _median(found[side])
        name = PEER if side == "fuxictr" else side
        note = "; ".join([*notes, _described(name, found[side], epochs), *caveat])
        equal = abs(_auc(found["ours"]) - _auc(found[side])) < _EQUAL_AUC
        label = f"{case.name} {threads} thread(s) against {name}"
        yield Row(label, ours, "samples/s", peer, ours / peer, equal=equal, note=note)


def _auc(runs: list[Measured]) -> float:
    return statistics.mean(run.auc for run in runs)


def _with_earlier(rows: list[Row]) -> list[Row]:
    """Return today's rows after those of other cases that were measured before: cases may be run one by one."""
    file = OUT / "training_speed.json"
    earlier = json.loads(file.read_text())["rows"] if file.is_file() else []
    new = {row.case for row in rows}
    return [*(Row(**row) for row in earlier if row["case"] not in new), *rows]


def _described(name: str, runs: list[Measured], epochs: int) -> str:
    rates = [rate for run in runs for rate in run.rates]
    aucs = [run.auc for run in runs]
    return (
        f"{name} {min(rates):,.0f} to {max(rates):,.0f} over {len(rates)} epochs, "
        f"test AUC {statistics.mean(aucs):.4f}, best of {epochs} on validation"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show where our steps' time goes, and measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        arguments.answer.write_text(json.dumps(asdict(train(_Side(**json.loads(arguments.one))))))
        return
    cases = [CASES[name] for name in arguments.cases]
    if arguments.profile:
        for case in cases:
            print(profile_steps(case, arguments.threads[0]))
        return
    rows: list[Row] = []
    for case in cases:
        for threads in arguments.threads:
            rows += _rows(case, threads, _measure(case, arguments, threads), arguments.epochs)
    write("training_speed", _with_earlier(rows), epochs=arguments.epochs, repeats=arguments.repeats, batch=BATCH)


if __name__ == "__main__":
    main()
