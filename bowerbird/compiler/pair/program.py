"""A pair program under construction: inputs, steps and weights of ``bowerbird.kernels.pair``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bowerbird.compiler.graph import Builder, Node, RowGraph

Values = npt.NDArray[np.float32]
Step = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where an input's values come from: a value of the pair graph by name, or a constant.

    ``length`` says that it is a sequence, [length, width].
    """

    name: str
    width: int
    constant: Values | None = None
    length: bool = False


@dataclass(frozen=True)
class PairLowering:
    """A pair graph as three parts, run in order: ``before`` and ``after`` by PyTorch, ``spec`` by the native engine.

    ``request_part`` is to be made of the request's values, once. ``before`` are small things that the engine has no
    step for (unknown numbers, say), ``after`` what follows an operation that it has none for. ``request`` and ``items``
    say where the engine's inputs come from.
    """

    spec: dict[str, Any]
    weights: dict[str, Values]
    request: dict[str, Source]
    items: dict[str, Source]
    request_part: dict[str, Node]
    before: RowGraph
    after: RowGraph
    native_share: float
    """The share of a candidate's operations that the engine computes."""


@dataclass
class Draft:
    """The steps so far."""

    build: Builder
    steps: list[Step] = field(default_factory=list)
    weights: dict[str, Values] = field(default_factory=dict)
    request: dict[str, Source] = field(default_factory=dict)
    items: dict[str, Source] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)

    def step(self, op: str, inputs: list[str], **more: Any) -> str:
        """Add a step and return its result's name."""
        name = f"v{len(self.steps)}"
        self.steps.append({"op": op, "out": name, "in": inputs, **more})
        return name

    def weight(self, value: Tensor | Values) -> str:
        """Add a weight and return its name."""
        name = f"w{len(self.weights)}"
        array = value.detach().float().numpy() if isinstance(value, Tensor) else value
        self.weights[name] = np.ascontiguousarray(array, np.float32)
        return name

    def constant(self, node: Node, width: int) -> str:
        """Return the name of a constant: a row that all candidates share, or with a ``width`` a sequence of rows."""
        value = np.ascontiguousarray(self.build.value(node).detach().float().numpy().reshape(-1))
        name = f"constant.{self._numbers.setdefault(id(node), len(self._numbers))}{'.sequence' if width else ''}"
        held = value.reshape(-1, width) if width else value
        self.request[name] = Source("", width or len(value), held, length=width > 0)
        return name

    def row(self, name: str, node: Node) -> str:
        """Return the input of a request's value as one row."""
        self.request[name] = Source(name, math.prod(node.shape))
        return name

    def sequence(self, name: str, width: int) -> str:
        """Return the input of a request's value as a sequence [length, width]."""
        own = f"{name}:{width}"
        self.request[own] = Source(name, width, length=True)
        return own

    def candidate(self, name: str, node: Node) -> str:
        """Return the input of a value with a row for each candidate."""
        self.items[name] = Source(name, math.prod(node.shape))
        return name
