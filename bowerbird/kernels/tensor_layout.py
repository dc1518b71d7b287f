"""From a tensor program to what the native engine takes: few dimensions, and memory that values share in turn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bowerbird.kernels.tensor_spec import TensorSpec, TensorStep
from bowerbird.kernels.tensor_view import Shape, View, contiguous

_ALIGNED = 16
"""Values begin at multiples of so many floats."""
ANSWERS = "answers"
"""The value that a run's answers stand in, one after another."""

_Fields = dict[str, Any]
_Dims = list[tuple[int, tuple[int, ...]]]


class TensorLayout:
    """``values``, ``steps``, ``floats`` and ``answers`` as ``_native.TensorProgram`` takes them."""

    def __init__(self, spec: TensorSpec, stored: str) -> None:
        self.answers = sum(math.prod(view.shape) for view in spec.outputs.values())
        steps = [*spec.steps, *_copied(spec)]
        places, self.floats = _places(spec, steps)
        sources = {name: ("truths" if each.truths else "numbers") for name, each in spec.inputs.items()}
        self.values: list[tuple[Any, ...]] = [(sources[name], spec.size(name), places[name]) for name in spec.inputs]
        self.values += [("constant", each.size, each.reshape(-1)) for each in spec.constants.values()]
        self.values += [("step", size, places[name]) for name, size in spec.sizes.items()]
        self.values.append(("answers", self.answers, 0))
        names = (*spec.inputs, *spec.constants, *spec.sizes, ANSWERS)
        self._numbers = {name: number for number, name in enumerate(names)}
        self.steps = [self._step(step, stored) for step in steps]

    def _step(self, step: TensorStep, stored: str) -> _Fields:
        views = (step.out, *step.inputs)
        match step.op:
            case "pointwise":
                dims = merged(_sorted(_dims(step.out.shape, views))) or [(1, (0,) * len(views))]
                return self._walk(step, dims, element=step.element, numbers=list(step.numbers))
            case "reduce":
                kept, given = len(step.out.shape), step.inputs[0]
                beyond = (0,) * (len(given.shape) - kept)
                out = View(step.out.of, step.out.offset, given.shape, step.out.strides + beyond)
                dims = _dims(given.shape, (out, given))
                outer, inner = merged(_sorted(dims[:kept])), merged(_sorted(dims[kept:], by=1)) or [(1, (0, 0))]
                return self._walk(step, outer + inner, reduction=step.reduction, reduced=len(inner))
            case "softmax" | "layer_norm":
                dims = _dims(step.out.shape, views)
                weights = {"weight": step.weight, "bias": step.bias}
                return self._walk(step, merged(dims[:-1]) + dims[-1:], **weights, number=step.number)
            case "linear":
                assert step.weight is not None
                weights = {"weight": step.weight, "bias": step.bias}
                dims = [(step.out.shape[0], tuple(each.strides[0] for each in views))]
                more = {"element": step.element, "numbers": list(step.numbers), "stored": stored}
                return {**self._walk(step, dims, **weights, **more), "shape": [step.out.shape[0], *step.weight.shape]}
            case "product":
                batch = merged(_dims(step.out.shape[:-2], views))
                rows, columns = ((step.out.shape[dim], tuple(each.strides[dim] for each in views)) for dim in (-2, -1))
                found = self._walk(step, [*batch, rows, columns])
                return {**found, "shape": [*found["shape"], step.inputs[0].shape[-1]]}
            case "attention":
                query, keys, values, *_ = step.inputs
                operands = [self._operand(view, view.strides[:2]) for view in views]
                shape = [*query.shape[:2], keys.shape[1], query.shape[2], values.shape[2]]
                return {"op": step.op, "shape": shape, "out": operands[0], "in": operands[1:], "number": step.number}

    def _walk(self, step: TensorStep, dims: _Dims, **more: Any) -> _Fields:
        operands = [
            self._operand(view, [strides[number] for _, strides in dims])
            for number, view in enumerate((step.out, *step.inputs))
        ]
        return {"op": step.op, "shape": [size for size, _ in dims], "out": operands[0], "in": operands[1:], **more}

    def _operand(self, view: View, strides: Sequence[int]) -> tuple[int, int, list[int]]:
        return self._numbers[view.of], view.offset, list(strides)


def _dims(shape: Shape, views: Iterable[View]) -> _Dims:
    """Return each dimension's size with the strides of all views."""
    columns = [view.strides[: len(shape)] for view in views]
    return [(size, tuple(column[dim] for column in columns)) for dim, size in enumerate(shape)]


def _sorted(dims: _Dims, by: int = 0) -> _Dims:
    """Return dimensions in the order in which the numbers of view ``by`` stand."""
    return sorted(dims, key=lambda each: -each[1][by])


def merged(dims: _Dims) -> _Dims:
    """Return dimensions without those of one place, neighbours as one where every view allows it."""
    found: _Dims = []
    for size, strides in dims:
        if size == 1:
            continue
        if found and all(outer == size * inner for outer, inner in zip(found[-1][1], strides, strict=True)):
            found[-1] = (found[-1][0] * size, strides)
        else:
            found.append((size, strides))
    return found


def _copied(spec: TensorSpec) -> list[TensorStep]:
    """Return the steps that put the outputs where the answers are to stand."""
    steps, offset = [], 0
    for view in spec.outputs.values():
        to = View(ANSWERS, offset, view.shape, contiguous(view.shape))
        steps.append(TensorStep("pointwise", to, (view,)))
        offset += math.prod(view.shape)
    return steps


def _places(spec: TensorSpec, steps: Sequence[TensorStep]) -> tuple[dict[str, int], int]:
    """Return where each value begins in the memory of a run, and how large that is: values share it in turn."""
    sizes = {name: spec.size(name) for name, each in spec.inputs.items() if each.truths} | dict(spec.sizes)
    first = {name: -1 for name in spec.inputs}
    last = dict(first)
    for number, step in enumerate(steps):
        for view in (step.out, *step.inputs):
            first.setdefault(view.of, number)
            last[view.of] = number
    places = dict.fromkeys((*spec.inputs, *spec.sizes), 0)
    placed: list[str] = []
    for name in sorted(sizes, key=lambda each: first.get(each, 0)):
        meets = [each for each in placed if last.get(each, 0) >= first.get(name, 0)]
        start = 0
        for each in sorted(meets, key=lambda one: places[one]):
            if start + sizes[name] <= places[each]:
                break
            start = max(start, -(-(places[each] + sizes[each]) // _ALIGNED) * _ALIGNED)
        places[name] = start
        placed.append(name)
    return places, max((places[name] + sizes[name] for name in placed), default=0)
