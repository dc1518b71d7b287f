"""A tensor program under construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.kernels.tensor_spec import TensorInput, TensorOp, TensorSpec, TensorStep, Values
from bowerbird.kernels.tensor_view import Shape, View


@dataclass
class TensorDraft:
    """The steps so far."""

    inputs: dict[str, TensorInput] = field(default_factory=dict)
    constants: dict[str, Values] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    steps: list[TensorStep] = field(default_factory=list)

    def given(self, name: str, shape: Shape, truths: bool) -> View:
        """Return an input of a run."""
        self.inputs[name] = TensorInput(shape, truths)
        return View.whole(name, shape)

    def constant(self, value: Tensor) -> View:
        """Return numbers that are known."""
        name = f"constant.{len(self.constants)}"
        self.constants[name] = held(value).reshape(-1)
        return View.whole(name, tuple(value.shape))

    def new(self, shape: Shape) -> View:
        """Return room for a new value, row by row."""
        name = f"value.{len(self.sizes)}"
        self.sizes[name] = math.prod(shape)
        return View.whole(name, shape)

    def like(self, view: View) -> View:
        """Return room for a new value whose numbers stand in a view's order, as far as it says one."""
        order = sorted(range(len(view.shape)), key=lambda dim: -view.strides[dim])
        made = self.new(tuple(view.shape[dim] for dim in order))
        return made.permuted([order.index(dim) for dim in range(len(order))])

    def step(self, op: TensorOp, out: View, inputs: Sequence[View], **more: Any) -> View:
        """Add a step and return what it makes."""
        self.steps.append(TensorStep(op, out, tuple(inputs), **more))
        return out

    def pointwise(self, element: str, inputs: Sequence[View], *numbers: float) -> View:
        """Add a function of inputs that are repeated to one shape."""
        shape = np.broadcast_shapes(*(each.shape for each in inputs))
        given = [each.expanded(shape) for each in inputs]
        main = max(inputs, key=lambda each: (math.prod(each.shape), len(each.shape)))
        out = self.like(main) if main.shape == shape else self.new(shape)
        return self.step("pointwise", out, given, element=element, numbers=numbers)

    def copied(self, view: View) -> View:
        """Return the same numbers row by row."""
        return self.step("pointwise", self.new(view.shape), [view])

    def whole(self, view: View) -> View:
        """Return the same numbers, those along the last dimension as neighbours."""
        return view if view.rows_are_whole else self.copied(view)

    def reshaped(self, view: View, shape: Shape) -> View:
        """Return the same numbers in another shape, copied only where no strides say it."""
        found = reshaped(view, shape)
        return found if found is not None else View.whole(self.copied(view).of, shape)

    def finished(self, outputs: dict[str, View]) -> TensorSpec:
        """Return the program of some outputs, with the steps that they need."""
        used = {view.of for view in outputs.values()}
        kept: list[TensorStep] = []
        for step in reversed(self.steps):
            if step.out.of in used:
                kept.append(step)
                used |= {view.of for view in step.inputs}
        return TensorSpec(
            {name: each for name, each in self.inputs.items() if name in used},
            outputs,
            kept[::-1],
            {name: size for name, size in self.sizes.items() if name in used},
            {name: each for name, each in self.constants.items() if name in used},
        )


def reshaped(view: View, shape: Shape) -> View | None:
    """Return a view of the same numbers in another shape; None where no strides say it."""
    try:
        seen = torch.empty_strided(view.shape, view.strides, device="meta").view(shape)
    except RuntimeError:
        return None
    return replace(view, shape=shape, strides=tuple(seen.stride()))


def held(value: Tensor) -> Values:
    """Return a constant's numbers as float32; truth values are 1 and 0."""
    return np.ascontiguousarray(value.detach().to(torch.float32).numpy())
