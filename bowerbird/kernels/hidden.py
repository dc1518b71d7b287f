"""The NumPy twin of the native hidden-layer kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]


def kept(rows: int, width: int, keep: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which elements dropout keeps, bool [rows, width]: those whose half of a hash is below ``keep`` · 2¹⁶.

    Two neighbours share a hash, the lower half of which is the first one's.
    """
    if keep >= 1:
        return np.ones((rows, width), np.bool_)
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    row_numbers = np.arange(rows).astype(np.uint32)
    row_seeds = _mixed(_mixed(row_numbers + low) ^ high)
    hashes = _mixed(row_seeds[:, None] + np.arange((width + 1) // 2).astype(np.uint32))
    halves = hashes.astype("<u4").view("<u2")[:, :width]
    limit = np.clip(np.float32(keep) * np.float32(2**16) + np.float32(0.5), 0, 2**16 - 1)
    below: npt.NDArray[np.bool_] = halves < np.uint16(limit)
    return below


def _mixed(value: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x7FEB352D)
    value = value ^ (value >> np.uint32(15))
    value = value * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def hidden_forward(x: Values, scale: Values | None, shift: Values | None, keep: float, seed: int) -> Values:
    """Return max(0, x · scale + shift) / keep where an element is kept, else 0: float32 [rows, width]."""
    moved: Values = x if scale is None or shift is None else x * scale + shift
    upscale = np.float32(1) / np.float32(keep)
    return np.where(kept(x.shape[0], x.shape[1], keep, seed), np.maximum(moved, np.float32(0)) * upscale, np.float32(0))


def hidden_backward(
    x: Values, y: Values, gradient: Values, mean: Values, inverse_deviation: Values, weight: Values, keep: float
) -> tuple[Values, Values, Values]:
    """Return the gradients of x [rows, width], of weight and of bias [width] (Ioffe and Szegedy, 2015)."""
    behind = np.where(y > 0, gradient.astype(np.float64) / keep, 0.0)
    normal = (x.astype(np.float64) - mean) * inverse_deviation
    of_bias, of_weight = behind.sum(axis=0), (behind * normal).sum(axis=0)
    of_x = weight * inverse_deviation * (behind - of_bias / len(x) - normal * of_weight / len(x))
    return of_x.astype(np.float32), of_weight.astype(np.float32), of_bias.astype(np.float32)
