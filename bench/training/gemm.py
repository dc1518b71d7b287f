"""How fast this machine multiplies matrices: the ceiling of any training step."""

from __future__ import annotations

import statistics
import time

import torch

Shape = tuple[int, int, int]
"""Rows, inputs and outputs of a layer's product."""


def layer_seconds(shape: Shape, dtype: torch.dtype, repeats: int = 9) -> float:
    """Return the median seconds of a layer's three products: forward, gradient of the input, gradient of the weight."""
    rows, inputs, outputs = shape
    value, weight = torch.randn(rows, inputs).to(dtype), torch.randn(inputs, outputs).to(dtype)
    gradient = torch.randn(rows, outputs).to(dtype)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(value, weight)
        torch.mm(gradient, weight.t())
        torch.mm(value.t(), gradient)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def step_seconds(layers: list[Shape], dtype: torch.dtype) -> float:
    """Return the seconds that a step's matrix products take and nothing else."""
    return sum(layer_seconds(shape, dtype) for shape in layers)


def flops(layers: list[Shape]) -> float:
    """Return the floating-point operations of a step's matrix products."""
    return 6.0 * sum(rows * inputs * outputs for rows, inputs, outputs in layers)
