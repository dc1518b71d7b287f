"""In which numbers a product of a pair program is computed, and how they are rounded."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.kernels.pair_rows import from_bfloat16, to_bfloat16

Precision = Literal["fp32", "bf16", "int8"]
Values = npt.NDArray[np.float32]

FEWEST_OUTPUTS = 8
"""Products of fewer outputs (heads, gates) stay float32: they decide the answer and cost next to nothing."""
FEWEST_INT8_INPUTS = 64
"""Products of fewer inputs gain nothing from int8, for each of them pays for a scale per candidate."""


def product_precision(asked: str, inputs: int, outputs: int) -> Precision:
    """Return the precision of a product of ``inputs`` by ``outputs`` where a program or a step asks for one."""
    if asked not in ("fp32", "bf16", "int8"):
        raise InputError(f"Precision {asked!r} is not known.", "Use fp32, bf16 or int8.")
    if asked == "fp32" or outputs < FEWEST_OUTPUTS or not inputs:
        return "fp32"
    return "int8" if asked == "int8" and inputs >= FEWEST_INT8_INPUTS else "bf16"


def product(x: Values, weight: Values, precision: Precision) -> Values:
    """Return x [rows, inputs] by weight [outputs, inputs] as the kernels compute it: float32 [rows, outputs].

    A BLAS computes lanes that nobody reads, too, of what happens to stand there: what it warns of says nothing.
    """
    with np.errstate(invalid="ignore"):
        return _product(x, weight, precision)


def _product(x: Values, weight: Values, precision: Precision) -> Values:
    if precision == "fp32":
        return x @ weight.T
    if precision == "bf16":
        return from_bfloat16(to_bfloat16(x)) @ from_bfloat16(to_bfloat16(weight)).T
    steps, scale, zero = quantised_rows(x)
    whole, weight_scale = quantised_weight(weight)
    total = steps.astype(np.float64) @ whole.T.astype(np.float64)
    moved = total - zero[:, None] * whole.sum(axis=1, dtype=np.float64)
    return np.asarray(moved * scale[:, None] * weight_scale, np.float32)


def quantised_weight(weight: Values) -> tuple[npt.NDArray[np.int8], Values]:
    """Return int8 [outputs, inputs] and a float32 scale for each output; the greatest magnitude becomes 127."""
    greatest = np.abs(weight).max(axis=1, initial=0.0).astype(np.float32)
    scale = np.where(greatest > 0, greatest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def quantised_rows(x: Values) -> tuple[npt.NDArray[np.uint8], Values, Values]:
    """Return uint8 [rows, inputs] with each row's scale and zero point: x ≈ scale · (steps - zero).

    A row's range always holds 0, so that rectified rows have zero point 0; 254 steps leave room for rounding.
    """
    low, high = x.min(axis=1, initial=0.0), x.max(axis=1, initial=0.0)
    span = high - low
    inverse = np.where(span > 0, np.float32(254) / np.where(span > 0, span, np.float32(1)), np.float32(0))
    zero = np.ceil(-low * inverse).astype(np.float32)
    scale = (span / np.float32(254)).astype(np.float32)
    return np.rint(x * inverse[:, None] + zero[:, None]).astype(np.uint8), scale, zero
