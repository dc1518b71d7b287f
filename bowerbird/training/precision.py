"""bfloat16 where it pays: measured on this machine, with this model."""

from __future__ import annotations

import statistics
import time

import torch

from bowerbird.training.batches.encoded import Batch
from bowerbird.training.batches.targets import targets_of
from bowerbird.training.config import Precision
from bowerbird.training.network import Network

_REPEATS = 5
_WORTHWHILE = 1.15
"""bfloat16 loses digits; it must be this much faster to be chosen."""


def choose_precision(network: Network, batch: Batch, wanted: Precision) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` times forward and backward of one batch with both.

    The network, its gradients and the random state are left as they were.
    """
    if wanted != "auto":
        return wanted
    random = torch.get_rng_state()
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    times = {name: _step_seconds(network, batch, name) for name in ("float32", "bfloat16")}
    network.zero_grad(set_to_none=True)
    network.collection.forget_gradients()
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
    torch.set_rng_state(random)
    return "bfloat16" if times["float32"] > _WORTHWHILE * times["bfloat16"] else "float32"


def autocast(precision: str) -> torch.autocast:
    """Return the context in which the dense part runs."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")


def _step_seconds(network: Network, batch: Batch, precision: str) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        with autocast(precision):
            done = network(batch.rows)
        network.loss(done, targets_of(batch)).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
