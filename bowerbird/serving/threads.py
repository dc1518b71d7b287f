"""How many threads score, and how many a model may use: requests run side by side, each on its share of the cores."""

from __future__ import annotations

import os
import sys

import torch

from bowerbird.declare.workspace import ServerSettings

_SWITCH_SECONDS = 1e-4


def scoring_threads(settings: ServerSettings) -> int:
    """Return the threads of each process that score: as set, else two, or none where a process has one core.

    Without any, the event loop's own thread scores: a second thread would compete with it for the one core.
    """
    if settings.threads is not None:
        return settings.threads
    return 2 if _cores() // settings.workers > 1 else 0


def bound_model_threads(settings: ServerSettings) -> int:
    """Give each thread that scores, in all processes, its share of the cores inside PyTorch; return that share."""
    share = max(1, _cores() // (max(1, scoring_threads(settings)) * settings.workers))
    torch.set_num_threads(share)
    return share


def share_interpreter() -> None:
    """Let a thread that wants Python's interpreter have it after a tenth of a millisecond, instead of five.

    A scoring thread gives the interpreter up at each native call, and waits this long for it after each one while
    another thread computes in Python: loading a version, or writing events. Nothing changes while no other thread does.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
