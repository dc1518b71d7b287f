"""The shop's own functions: what a user's module of functions looks like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def spread(low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how far two numbers are apart, per row."""
    return np.abs(high - low)


def same(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return 1 where two categories are the same, else 0, as a category."""
    return (left == right).astype(np.int64)
