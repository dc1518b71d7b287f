"""The staging compiler against runtimes: the same weights, answers compared first, engines interleaved on one core.

``python -m bench.compiler --cases reference,MMoE --rows 500 --rounds 30 --engines 'eager tiled;staged, PyTorch fp32'``,
all of them by default. Peers are measured on tiled inputs, as most people deploy, and on the graphs that the compiler
cut, as an expert would by hand: between the two lies the algebra, between engines on one graph the kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.common import Row, write
from bench.compiler_models import Case, cases
from bench.compiler_peers import PEERS, Peer
from bowerbird.compiler.cost import measure_rates
from bowerbird.compiler.explain import explain
from bowerbird.compiler.staging import Compilation, compile_module, prove

TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.2}
"""How far a logit may be from eager PyTorch's, by the precision of products."""


@dataclass
class Engine:
    """One way to score: what runs, and what was measured."""

    name: str
    run: Callable[[], dict[str, Tensor]]
    seconds: list[float]
    worst: float
    prepared: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="")
    parser.add_argument("--rows", default="50,200,500,2000")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--engines", default="")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    chosen = [case for case in cases() if not given.cases or case.name in given.cases.split(",")]
    peers = [peer for peer in PEERS if not given.engines or peer.name in given.engines.split(";")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            rows += _measure_case(
                case, peers, [int(each) for each in given.rows.split(",")], given.rounds, Path(folder)
            )
    write("compiler", rows, rates=measure_rates().__dict__)


def _measure_case(case: Case, peers: list[Peer], counts: list[int], rounds: int, folder: Path) -> list[Row]:
    started = time.perf_counter()
    compilation = compile_module(case.module, _expanded(case, 4), case.shape.stages)
    seconds = time.perf_counter() - started
    worst = prove(case.module, compilation.program, lambda rows: case.shape.features(rows, rows))
    found = explain(compilation)
    rows = [
        Row(f"{case.name}: operations per candidate", found.stages["pair"].flops, "", found.written.flops, found.gain,
            note="peer: as written"),
        Row(f"{case.name}: capture and staging", seconds, "s", equal=True, note=f"logits differ by {worst:.1e}"),
    ]  # fmt: skip
    for count in counts:
        rows += _measure(case, compilation, peers, count, rounds, folder / case.name)
    return rows


def _measure(
    case: Case, compilation: Compilation, peers: list[Peer], count: int, rounds: int, folder: Path
) -> list[Row]:
    features, tiled = case.shape.features(count, count), _expanded(case, count)
    with torch.inference_mode():
        expected = case.module(tiled)
    engines: list[Engine] = []
    for peer in peers:
        started = time.perf_counter()
        run = peer.prepare(case, compilation, features, tiled, folder / peer.name)
        engine = Engine(peer.name, run, [], _worst(run(), expected), time.perf_counter() - started)
        if engine.worst > TOLERANCES[peer.precision]:
            raise SystemExit(f"{peer.name} answers {case.name} wrongly: {engine.worst:.3g}.")
        engines.append(engine)
    for turn in range(rounds + 3):
        for engine in engines:
            began = time.perf_counter()
            engine.run()
            if turn >= 3:
                engine.seconds.append(time.perf_counter() - began)
    return [_row(case, count, engine, engines[0]) for engine in engines]


def _row(case: Case, count: int, engine: Engine, base: Engine) -> Row:
    ratios = np.array(base.seconds) / np.array(engine.seconds)
    low, high = _interval(ratios)
    return Row(
        f"{case.name}, N = {count}: {engine.name}",
        1e6 * statistics.median(engine.seconds) / count,
        "µs per candidate",
        peer=1e6 * statistics.median(base.seconds) / count,
        ratio=float(np.median(ratios)),
        equal=True,
        note=f"{low:.2f} to {high:.2f} times {base.name}; logits within {engine.worst:.1e}; {engine.prepared:.1f} s",
    )


def _interval(ratios: np.ndarray) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the median."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (2000, len(ratios))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def _expanded(case: Case, rows: int) -> dict[str, Tensor]:
    features = case.shape.features(rows, rows)
    return {name: value.expand(rows, *value.shape[1:]).contiguous() for name, value in features.items()}


def _worst(answers: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    return max(float((answers[name].float() - value).abs().max()) for name, value in expected.items())


if __name__ == "__main__":
    main()
