"""Our kernels against other engines on the same staged graph: the reference ranker's pair stage on one core.

    python -m bench.compiler.pair_kernels                     # 500 candidates; needs .[bench-compiler]
    python -m bench.compiler.pair_kernels --counts 50 2000

Answers are compared with float64 PyTorch first. Engines are timed in turn; a row's figure is a median, the ratio's
95% interval resamples the turns. The peak is that of multiply-adds on registers alone, measured in this run.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings

import numpy as np
import torch

from bench.common import Row, write
from bench.compiler import pair_peers
from bench.compiler.pair_model import MULTIPLY_ADDS, PRODUCTS, Inputs, PairStage, inputs, program
from bowerbird.kernels.pair import PairProgram
from bowerbird.kernels.pair_precision import Precision, product_precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_TOLERANCE = {"fp32": 1e-5, "bf16": 5e-3, "int8": 2e-2}
"""Of probabilities, by the narrower of an engine's number formats."""
_RESAMPLES = 2000


def _exact(stage: PairStage, given: Inputs) -> np.ndarray:
    names = ("query", "query_part", "partial", "user", "history", "history_part")
    with torch.inference_mode():
        return copy.deepcopy(stage).double()(*(torch.from_numpy(given.dense[name]).double() for name in names)).numpy()


def _ours(stage: PairStage, given: Inputs) -> dict[str, pair_peers.Engine]:
    return {f"ours {precision}": _our_engine(stage, given, precision) for precision in PRECISIONS}


def _our_engine(stage: PairStage, given: Inputs, precision: Precision) -> pair_peers.Engine:
    made = PairProgram(*program(stage), precision)
    request, items = given.request(), given.items("fp32" if precision == "fp32" else "bf16")
    return lambda: made.run(request, items, len(given.rows))["head"]


def _peers(stage: PairStage, given: Inputs) -> dict[str, pair_peers.Engine]:
    return {
        "PyTorch eager fp32": pair_peers.eager(stage, given, torch.float32),
        "PyTorch eager bf16": pair_peers.eager(stage, given, torch.bfloat16),
        "oneDNN prepacked fp32": pair_peers.onednn(stage, given, torch.float32),
        "oneDNN prepacked bf16": pair_peers.onednn(stage, given, torch.bfloat16),
        "ONNX Runtime fp32": pair_peers.onnxruntime(stage, given, quantised=False),
        "ONNX Runtime int8": pair_peers.onnxruntime(stage, given, quantised=True),
        "OpenVINO fp32": pair_peers.openvino(stage, given, "f32"),
        "OpenVINO bf16": pair_peers.openvino(stage, given, "bf16"),
    }


def _timed(engines: dict[str, pair_peers.Engine], turns: int) -> dict[str, np.ndarray]:
    """Return seconds [turns] of each engine; in each turn an untimed run comes first, so that caches are its own."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(turns):
        for name, run in engines.items():
            run()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(found) for name, found in seconds.items()}


def _ratio(ours: np.ndarray, peer: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of medians with its 95% interval over turns."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratios = np.median(peer[draws], axis=1) / np.median(ours[draws], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def _rows(count: int, seconds: dict[str, np.ndarray], errors: dict[str, float], peaks: dict[str, float]) -> list[Row]:
    micro = {name: statistics.median(found) / count * 1e6 for name, found in seconds.items()}
    rows = []
    for precision in PRECISIONS:
        name = f"ours {precision}"
        part = MULTIPLY_ADDS / peaks[precision] / (micro[name] * 1e-6)
        own = sum(
            rows * inputs * outputs / peaks[product_precision(precision, inputs, outputs)]
            for rows, inputs, outputs in PRODUCTS
        ) / (micro[name] * 1e-6)
        note = (
            f"{100 * part:.0f}% of {peaks[precision] / 1e9:.1f} billion {precision} multiply-adds a second; "
            f"{100 * own:.0f}% where each product counts in its own precision; greatest error {errors[name]:.1e}"
        )
        rows.append(Row(f"N={count}: {name}", micro[name], "µs/candidate", note=note))
    for peer in (name for name in seconds if not name.startswith("ours")):
        precision = peer.rsplit(" ", 1)[1]
        for name in dict.fromkeys([f"ours {precision}", "ours int8"]):
            ratio, low, high = _ratio(seconds[name], seconds[peer])
            equal = errors[name] < _TOLERANCE[name.split()[1]] and errors[peer] < _TOLERANCE[precision]
            note = f"95% {low:.2f} to {high:.2f}; greatest error of the peer {errors[peer]:.1e}"
            rows.append(
                Row(f"N={count}: {name} / {peer}", micro[name], "µs/candidate", micro[peer], ratio, equal, note)
            )
    return rows


def measure(count: int, turns: int, peaks: dict[str, float]) -> list[Row]:
    """Compare answers and time all engines for a number of candidates."""
    torch.manual_seed(0)
    stage, given = PairStage().eval(), inputs(count)
    engines = _ours(stage, given) | _peers(stage, given)
    exact = _exact(stage, given)
    errors = {name: float(np.abs(run() - exact).max()) for name, run in engines.items()}
    return _rows(count, _timed(engines, turns), errors, peaks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[500])
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    peaks = {precision: PairProgram.peak(precision) for precision in PRECISIONS}
    rows = [row for count in arguments.counts for row in measure(count, arguments.turns, peaks)]
    write("pair_kernels", rows, isa=PairProgram.isa(), multiply_adds=MULTIPLY_ADDS, peaks=peaks)


if __name__ == "__main__":
    main()
