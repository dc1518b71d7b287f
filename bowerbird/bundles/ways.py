"""The ways that this host can serve a version by: backends and precisions."""

from __future__ import annotations

import importlib.util

from bowerbird.bundles.staged_model import Way
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.backends.native import Native


def available_ways() -> list[Way]:
    """Return the ways that this host has beside PyTorch in float32, none of which takes long to prepare."""
    ways = [Way(Interpreter(), "bf16")]
    if importlib.util.find_spec("bowerbird.kernels.pair") is not None:
        engine = Native()
        ways += [Way(engine, precision) for precision in engine.precisions]
    return ways
