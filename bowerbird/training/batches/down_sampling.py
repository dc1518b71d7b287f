"""Negatives that were left out before the samples were made, counted again where a model is judged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bowerbird.errors import InputError
from bowerbird.plan.block import Numbers


def population_weight(labels: Mapping[str, Numbers], weight: Numbers, negative_rate: float) -> Numbers:
    """Return weights, float32 [rows], in which each negative stands for ``1 / negative_rate`` of them.

    ``bowerbird samples --negatives`` writes that into the samples' own weights, and nothing remains to be
    corrected: give ``negative_rate`` only for what happened before, in logs that hold a share of the negatives. As
    there, a row is negative when none of its labels happened. Raises InputError for a rate that is not above 0 and
    at most 1.
    """
    if not 0 < negative_rate <= 1:
        raise InputError(f"A negative rate of {negative_rate} is not possible.", "Give more than 0, at most 1.")
    if negative_rate == 1:
        return weight
    negative = np.logical_and.reduce([label != 1 for label in labels.values()])
    return np.where(negative, weight / np.float32(negative_rate), weight).astype(np.float32)
