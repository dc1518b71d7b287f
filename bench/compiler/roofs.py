"""This core's ceilings: matrix products of oneDNN and of our kernels, multiply-adds on registers, bytes of memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from bowerbird.compiler.cost import measure_rates
from bowerbird.compiler.precision import Precision
from bowerbird.kernels.pair import PairProgram

ROWS, INPUTS, OUTPUTS = 512, 1024, 1024
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def roofs() -> dict[str, dict[str, float]]:
    """Return operations a second by precision (a multiplication and an addition are two), and bytes a second."""
    operations = 2.0 * ROWS * INPUTS * OUTPUTS
    onednn = {"fp32": _onednn(torch.float32), "bf16": _onednn(torch.bfloat16), "int8": _onednn_int8()}
    rates = measure_rates()
    return {
        "onednn": {name: operations / _seconds(run) for name, run in onednn.items()},
        "ours": {name: operations / _seconds(_ours(name)) for name in PRECISIONS},
        "registers": {name: 2.0 * PairProgram.peak(name) for name in PRECISIONS},
        "memory": {"stream": rates.stream, "row": rates.row},
    }


def _onednn(dtype: torch.dtype) -> Callable[[], object]:
    """Return a product with a weight that was packed beforehand."""
    value, weight = torch.randn(ROWS, INPUTS).to(dtype), torch.randn(OUTPUTS, INPUTS).to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return lambda: torch.ops.mkldnn._linear_pointwise(value, packed, None, "none", [], "")


def _onednn_int8() -> Callable[[], object]:
    value = torch.randint(0, 255, (ROWS, INPUTS), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (INPUTS, OUTPUTS), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight.t().contiguous(), [ROWS, INPUTS])
    scales, zeros = torch.full((OUTPUTS,), 0.01), torch.zeros(OUTPUTS, dtype=torch.int64)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        value, 0.01, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def _ours(precision: Precision) -> Callable[[], object]:
    random = np.random.default_rng(0)
    weight = random.normal(size=(OUTPUTS, INPUTS)).astype(np.float32)
    spec = {
        "inputs": [{"name": "x", "width": INPUTS, "stage": "item"}],
        "steps": [{"op": "linear", "out": "y", "in": ["x"], "weight": "w"}],
        "outputs": ["y"],
    }
    program = PairProgram(spec, {"w": weight}, precision)
    given = {"x": random.normal(size=(ROWS, INPUTS)).astype(np.float32)}
    return lambda: program.run({}, given, ROWS)


def _seconds(run: Callable[[], object]) -> float:
    """Return the median of fifteen."""
    found = []
    with torch.inference_mode():
        for _ in range(18):
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
    return statistics.median(found[3:])
