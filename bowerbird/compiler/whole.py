"""Operators that couple rows, kept as they were written: they run on all candidates at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor

from bowerbird.compiler.graph import Node
from bowerbird.compiler.operations import Operation, Ref, Shape, call, dtype_named
from bowerbird.compiler.size import Rows


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """An argument that depends on the number of rows: ``times`` · rows + ``plus``."""

    times: int
    plus: int


class Dtype(msgspec.Struct, frozen=True, tag="dtype"):
    """An argument that is a dtype."""

    name: str


Flat = Ref | Counted | Dtype | bool | int | float | str | None
WholeArgument = Flat | tuple[Flat, ...]


class Step(msgspec.Struct, frozen=True):
    """One ATen call of a ``Whole``: arguments refer to the given values first, then to earlier steps."""

    target: str
    arguments: tuple[WholeArgument, ...]
    output: int | None = None


class Whole(Operation, frozen=True):
    """ATen calls on tensors with all their rows, as the module wrote them.

    ``given`` says where each input's rows are in the module's own layout (None: it has none), ``result`` where they
    are in the last step's. Its stage is *pair*: what it returns depends on the set of candidates.
    """

    couples: ClassVar[bool] = True

    given: tuple[Rows | None, ...]
    steps: tuple[Step, ...]
    result: Rows | None

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows, *shape], or [1, *shape] where the result has no rows."""
        pairs = zip(values, self.given, strict=True)
        known: list[Any] = [value[0] if where is None else with_rows(value, where, rows) for value, where in pairs]
        for step in self.steps:
            result = call(step.target, [_filled(each, known, rows) for each in step.arguments])
            known.append(result if step.output is None else result[step.output])
        last: Tensor = known[-1]
        return last.unsqueeze(0) if self.result is None else without_rows(last, self.result, rows)

    def is_shared(self, inputs: Sequence[bool]) -> bool:
        """Return whether the result has no rows."""
        return self.result is None

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return a guess: four for each given element."""
        total = 0
        for shape in inputs:
            total += 4 * torch.Size(shape).numel()
        return total


def _filled(argument: Any, known: Sequence[Any], rows: int) -> Any:
    if isinstance(argument, Ref):
        return known[argument.position]
    if isinstance(argument, Counted):
        return argument.times * rows + argument.plus
    if isinstance(argument, Dtype):
        return dtype_named(argument.name)
    if isinstance(argument, tuple):
        return [_filled(each, known, rows) for each in argument]
    return argument


def with_rows(value: Tensor, where: Rows, rows: int) -> Tensor:
    """Return [rows or 1, *shape] as the module's own tensor, its rows in dimension ``where.dim``."""
    value = value.expand(rows, *value.shape[1:])
    before, behind = value.shape[1 : 1 + where.dim], value.shape[1 + where.dim + (where.fold > 1) :]
    apart = value.reshape(rows, *before, where.outer, where.inner, *behind)
    moved = apart.movedim(0, where.dim + 1)
    return moved.reshape(*before, where.outer * rows * where.inner, *behind)


def without_rows(value: Tensor, where: Rows, rows: int) -> Tensor:
    """Return a module's own tensor as [rows, *shape]."""
    before, behind = value.shape[: where.dim], value.shape[where.dim + 1 :]
    apart = value.reshape(*before, where.outer, rows, where.inner, *behind)
    fold = () if where.fold == 1 else (where.fold,)
    return apart.movedim(where.dim + 1, 0).reshape(rows, *before, *fold, *behind)


@dataclass(frozen=True, eq=False)
class Unlifted:
    """A value of the module whose rows stand in no one dimension: calls to make once a later one brings them back.

    ``inputs`` are lifted values with their layouts, ``steps`` refer to them.
    """

    inputs: tuple[tuple[Node, Rows | None], ...]
    steps: tuple[Step, ...]
