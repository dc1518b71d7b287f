"""When requests are meant to be sent: at random, as users come, or as they came in the log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


def poisson(rate: float, seconds: float, seed: int = 0) -> Times:
    """Return arrival times in [0, seconds), ascending, of a Poisson process of ``rate`` a second."""
    chance = np.random.default_rng(seed)
    count = chance.poisson(rate * seconds)
    return np.sort(chance.uniform(0.0, seconds, count))


def recorded(times: Sequence[float], rate: float, seconds: float) -> Times:
    """Return arrival times in [0, seconds) with the gaps of a log, stretched so that ``rate`` a second come on average.

    A log that is shorter is gone through again.
    """
    gaps = np.diff(np.asarray(times, np.float64))
    gaps *= len(gaps) / (gaps.sum() * rate)
    rounds = int(np.ceil(seconds / gaps.sum()))
    arrivals = np.concatenate([[0.0], np.cumsum(np.tile(gaps, rounds))])
    return arrivals[arrivals < seconds]
