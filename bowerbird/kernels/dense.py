"""The NumPy twins of the native passes of training: cross layers, linear layers, narrow ones too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]


def cross_forward(first: Values, product: Values, crossed: Values) -> Values:
    """Return first * product + crossed (Wang et al., 2021), float32 [rows, width]."""
    return first * product + crossed


def cross_backward(
    first: Values, product: Values, of_next: Values | None, of_low: Values | None, later: Values | None
) -> tuple[Values, Values, Values]:
    """Return the gradients of ``crossed``, ``product`` and ``first``, each [rows, width].

    ``of_next`` and ``of_low`` came back to the two copies of the result, ``later`` to ``first`` from later layers;
    None stands for zeros.
    """
    none = np.zeros_like(first)
    total: Values = (none if of_next is None else of_next) + (none if of_low is None else of_low)
    return total, total * first, (none if later is None else later) + total * product


def narrow_forward(x: Values, weights: Values, out: Values) -> Values:
    """Return out + x weights^T, [rows, outputs]; x is [rows, width], weights [outputs, width]."""
    product = x.astype(np.float64) @ weights.astype(np.float64).T
    return (out + product).astype(np.float32)


def narrow_backward(x: Values, weights: Values, gradient: Values) -> tuple[Values, Values]:
    """Return the gradients of x and of the weights; ``gradient`` is [rows, outputs]."""
    wide = gradient.astype(np.float64)
    return (wide @ weights).astype(np.float32), (wide.T @ x).astype(np.float32)


def linear_forward(x: Values, weights: Values, bias: Values | None) -> Values:
    """Return x weights^T + bias with factors rounded to bfloat16, float32 [rows, outputs]."""
    product = rounded(x).astype(np.float64) @ rounded(weights).astype(np.float64).T
    return (product if bias is None else product + bias).astype(np.float32)


def linear_input_gradient(gradient: Values, weights: Values) -> Values:
    """Return the gradient of x, [rows, inputs]."""
    return (gradient.astype(np.float64) @ rounded(weights)).astype(np.float32)


def linear_weight_gradient(gradient: Values, x: Values) -> tuple[Values, Values]:
    """Return the gradients of the weights, [outputs, inputs], and of the bias, [outputs]."""
    wide = gradient.astype(np.float64)
    return (wide.T @ rounded(x)).astype(np.float32), wide.sum(axis=0).astype(np.float32)


def rounded(values: Values) -> Values:
    """Return the values as bfloat16 holds them: to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    result: Values = kept.astype(np.uint32).view(np.float32)
    return result
