"""The ways by which a version may be served: backends and precisions, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bowerbird.bundles.scorer import BlendedModel, LogitModel
from bowerbird.bundles.staged_model import StagedModel, Way
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.backends.openvino import OpenVino
from bowerbird.errors import InputError
from bowerbird.plan.mistake import nearest

PLAIN = "torch.fp32"
"""The way that every network has: its publication proves it equal to eager PyTorch."""
TREES = "lightgbm"
"""The only way of trees."""


LAST_RESORTS = frozenset({"openvino"})
"""Backends that take many seconds to prepare and to judge: they are for networks that no other one serves in float32.
Wherever both run, the native engine is the faster one (``bench.compiler``)."""


def known_ways() -> dict[str, Way]:
    """Return the ways by name, last resorts last."""
    backends = (Interpreter(), Native(), OpenVino())
    ways = [Way(backend, precision) for backend in backends for precision in backend.precisions]
    return {way.name: way for way in ways}


def way_named(name: str) -> Way:
    """Return a way by its name; InputError names the nearest one."""
    ways = known_ways()
    if name not in ways:
        raise InputError(f"No way of serving is named {name!r}.", nearest(name, list(ways)))
    return ways[name]


def served_by(model: LogitModel, way: Way) -> LogitModel:
    """Return a model whose network is run another way; InputError for one that has no staged program."""
    if isinstance(model, BlendedModel):
        return BlendedModel(served_by(model.network, way), model.trees)
    if not isinstance(model, StagedModel):
        raise InputError(f"A {type(model).__name__} cannot be served by {way.name}.", "Publish the version again.")
    return model.with_way(way)


def shifted(way: Way, model: LogitModel, shifts: Mapping[str, float]) -> Way:
    """Return a way that moves the logits of a model's tasks by ``shifts``; a blend halves what its network answers."""
    times = 2.0 if isinstance(model, BlendedModel) else 1.0
    return replace(way, shifts={task: times * shift for task, shift in shifts.items()})


def has_ways(model: LogitModel) -> bool:
    """Return whether a model has a staged program, which can be run in several ways."""
    return has_ways(model.network) if isinstance(model, BlendedModel) else isinstance(model, StagedModel)
