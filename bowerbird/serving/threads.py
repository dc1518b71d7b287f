"""How many threads a model may use: requests run side by side, so that each keeps to its share of the cores."""

from __future__ import annotations

import os

import torch


def bound_model_threads(scoring_threads: int) -> int:
    """Give each of ``scoring_threads`` its share of the cores inside PyTorch; return that share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // max(1, scoring_threads))
    torch.set_num_threads(share)
    return share
