"""A tensor program of several rows at once: what is computed for many items, a few of them in one run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from bowerbird.kernels.tensor_spec import TensorInput, TensorSpec, TensorStep
from bowerbird.kernels.tensor_view import View


def side_by_side(spec: TensorSpec, rows: int) -> TensorSpec:
    """Return what computes ``rows`` rows of a program in one run; all values, given ones too, are [rows, *shape].

    A weight is read once for all rows, and a step is begun once. What a row becomes does not depend on the others.
    """
    together = _Together(spec, rows)
    return TensorSpec(
        {name: TensorInput((rows, *each.shape), each.truths) for name, each in spec.inputs.items()},
        {name: together.view(view) for name, view in spec.outputs.items()},
        [made for step in spec.steps for made in together.steps(step)],
        {name: rows * size for name, size in spec.sizes.items()},
        spec.constants,
    )


class _Together:
    """Rows stand one after another in each value; constants stand once."""

    def __init__(self, spec: TensorSpec, rows: int) -> None:
        self._spec, self._rows = spec, rows

    def view(self, view: View) -> View:
        """Return all rows' numbers of a view."""
        return replace(view, shape=(self._rows, *view.shape), strides=(self._stride(view), *view.strides))

    def steps(self, step: TensorStep) -> Iterator[TensorStep]:
        """Yield what does a step for all rows: one step where there is one that says it."""
        views = (step.out, *step.inputs)
        if step.op == "linear":
            joined = [self._matrix(view) for view in views]
        else:
            joined = [None if step.op == "attention" else self.view(view) for view in views]
        whole = [view for view in joined if view is not None]
        if len(whole) == len(views):
            yield replace(step, out=whole[0], inputs=tuple(whole[1:]))
            return
        for row in range(self._rows):
            out, *inputs = (replace(view, offset=view.offset + row * self._stride(view)) for view in views)
            yield replace(step, out=out, inputs=tuple(inputs))

    def _matrix(self, view: View) -> View | None:
        """Return matrices [n, width] of all rows as one; None where no strides say it."""
        count, stride = view.shape[0], self._stride(view)
        if count > 1 and count * view.strides[0] != stride:
            return None
        lines = stride if count == 1 else view.strides[0]
        return replace(view, shape=(self._rows * count, view.shape[1]), strides=(lines, view.strides[1]))

    def _stride(self, view: View) -> int:
        """Return how far a row's numbers are from the next row's."""
        if view.of in self._spec.constants:
            return 0
        if view.of in self._spec.inputs:
            return math.prod(self._spec.inputs[view.of].shape)
        return self._spec.sizes[view.of]
