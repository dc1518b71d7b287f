"""The operations of a row graph: each says what one row's value becomes, and runs on many rows at once.

A *row value* has a shape of its own, without rows. In memory it stands as [rows, *shape], or as [1, *shape] where all
rows share it; operations broadcast over that first dimension. Dimensions that an operation names count from the end
(-1 is the last), so that they mean the same in a row's shape and in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.compiler.stage import Stage

Shape = tuple[int, ...]
Literal = bool | int | float | str | None


class Ref(msgspec.Struct, frozen=True, tag="ref"):
    """A place in an operator's arguments where the operation's input of this number stands."""

    position: int


Argument = Ref | bool | int | float | str | None
Run = Callable[[Sequence[Tensor], int], Tensor]
"""From the inputs' values and the number of rows to the result."""


class Operation(msgspec.Struct, frozen=True, tag=True):
    """What a node does: ``run`` takes tensors [rows or 1, *shape] and returns one.

    One that ``couples`` rows needs all candidates at once, whatever its inputs are.
    """

    couples: ClassVar[bool] = False

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the result, [rows or 1, *shape]."""
        raise NotImplementedError

    def runner(self) -> Run:
        """Return ``run`` for many calls, with what does not depend on values done before."""
        return self.run

    def is_shared(self, inputs: Sequence[bool]) -> bool:
        """Return whether all rows have one result, given which inputs all rows share."""
        return all(inputs)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return the floating-point operations of one row; a multiplication with its addition counts as two."""
        return math.prod(output)


class Input(Operation, frozen=True):
    """A tensor that is given: an embedded feature, or what another stage left behind."""

    name: str
    shape: Shape
    dtype: str
    stage: Stage

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Constant(Operation, frozen=True):
    """A weight, or what was computed from weights alone; ``name`` finds it among the graph's arrays."""

    name: str

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Pointwise(Operation, frozen=True):
    """An operator that computes each element from the elements at its place: ATen's ``target`` (``add.Tensor``)."""

    target: str
    arguments: tuple[Argument, ...]

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the operator's result, shorter shapes aligned at their end."""
        return self.runner()(values, rows)

    def runner(self) -> Run:
        """Return the operator with its arguments sorted out."""
        operator, names = overload(self.target), _keywords(self.target)
        first = len(self.arguments) if not names else min(len(self.arguments), _positional(self.target))
        positional, keywords = self.arguments[:first], dict(zip(names, self.arguments[first:], strict=False))

        def run(values: Sequence[Tensor], rows: int) -> Tensor:
            ranks = [value.dim() for value in values]
            rank = max(ranks)
            given = [
                value if own == rank else aligned(value, rank) for value, own in zip(values, ranks, strict=True)
            ]
            result: Tensor = operator(*fill(positional, given), **keywords)
            return result

        return run


class Prelu(Operation, frozen=True):
    """x where it is positive, slope · x elsewhere; inputs x and the constant slope, which aligns with the end of x."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the values, those below zero scaled."""
        given, slope = values[0], values[1][0]
        return torch.where(given > 0, given, slope * given)


class Dice(Operation, frozen=True):
    """x (α + (1 - α) sigmoid(scale · x + shift)): DIN's activation, and with α = 0 a swish; inputs x, α, scale, shift.

    α, scale and shift are constants [width] along the last dimension.
    """

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the values, each between α times itself and itself."""
        given, (alpha, scale, shift) = values[0], (value[0] for value in values[1:])
        return given * (alpha + (1 - alpha) * torch.sigmoid(scale * given + shift))

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return eight for each value."""
        return 8 * math.prod(output)


class Cast(Operation, frozen=True):
    """The same values in another ``dtype``."""

    dtype: str

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the values converted."""
        return values[0].to(dtype_named(self.dtype))


class Linear(Operation, frozen=True):
    """x Wᵀ + b over the last dimension: inputs x and the constants W [out, in] and, where there is one, b [out]."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows, ..., out]."""
        return functional.linear(values[0], *(value[0] for value in values[1:]))

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 2 · in for each output."""
        return 2 * inputs[1][1] * math.prod(output)


class Product(Operation, frozen=True):
    """Matrix products over the last two dimensions, the others broadcast: [..., n, k] and [..., k, m] → [..., n, m]."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows, ..., n, m]."""
        rank = max(value.dim() for value in values)
        first, second = (aligned(value, rank) for value in values)
        return torch.matmul(first, second)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 2 · k for each output."""
        return 2 * inputs[0][-1] * math.prod(output)


class Reduce(Operation, frozen=True):
    """ATen's ``target`` over ``dims``, which vanish: sums, means, greatest values; ``more`` come before the dims."""

    target: str
    dims: tuple[int, ...]
    more: tuple[Literal, ...] = ()
    single: bool = False
    """Whether the operator takes one dimension rather than a list."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the reduced values."""
        dims = self.dims[0] if self.single else list(self.dims)
        result: Tensor = call(self.target, [values[0], *self.more, dims])
        return result

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return one for each input."""
        return math.prod(inputs[0])


class Along(Operation, frozen=True):
    """An operator that works along dimensions and keeps rows apart (a sort, a cumulative sum): ATen's ``target``.

    ``arguments`` hold its dimensions, counted from the end; of several results ``output`` is the one meant.
    """

    target: str
    arguments: tuple[Argument | tuple[int, ...], ...]
    output: int | None = None

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the operator's result."""
        given = with_all_rows(values)
        filled = [
            given[each.position] if isinstance(each, Ref) else list(each) if isinstance(each, tuple) else each
            for each in self.arguments
        ]
        result = call(self.target, filled)
        chosen: Tensor = result if self.output is None else result[self.output]
        return chosen

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return four for each input: an exponential, a sum and a quotient, say."""
        return 4 * math.prod(inputs[0])


class Softmax(Operation, frozen=True):
    """exp(x) / Σ exp(x) along ``dim``."""

    dim: int

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the weights, which sum to one along the dimension."""
        return torch.softmax(values[0], self.dim)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return four for each value."""
        return 4 * math.prod(output)


class LayerNorm(Operation, frozen=True):
    """(x - mean) / sqrt(variance + epsilon) · weight + bias over the last dimension; inputs x, weight, bias."""

    epsilon: float

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the normalised values."""
        width = values[0].shape[-1:]
        return functional.layer_norm(values[0], width, values[1][0], values[2][0], self.epsilon)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return eight for each value."""
        return 8 * math.prod(output)


class Concat(Operation, frozen=True):
    """Values end to end along ``dim``."""

    dim: int

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return them joined, those of one row repeated."""
        return torch.cat(with_all_rows(values), self.dim)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Stack(Operation, frozen=True):
    """Single numbers as one vector."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows or 1, numbers]."""
        return torch.stack(with_all_rows(values), -1)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Reshape(Operation, frozen=True):
    """The same elements in the same order as ``shape``."""

    shape: Shape

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows, *shape]."""
        return values[0].reshape(values[0].shape[0], *self.shape)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Permute(Operation, frozen=True):
    """The dimensions in another order; ``dims`` count from the end."""

    dims: tuple[int, ...]

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the values permuted."""
        return values[0].permute(0, *self.dims)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Expand(Operation, frozen=True):
    """Values of one element along a dimension repeated to ``shape``."""

    shape: Shape

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows or 1, *shape], nothing copied."""
        value = aligned(values[0], len(self.shape) + 1)
        return value.expand(value.shape[0], *self.shape)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Slice(Operation, frozen=True):
    """Elements ``start`` (included) to ``stop`` (excluded) along ``dim``, every ``step``-th."""

    dim: int
    start: int
    stop: int
    step: int = 1

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the part."""
        if self.step == 1:
            return values[0].narrow(self.dim, self.start, self.stop - self.start)
        every: Tensor = torch.ops.aten.slice.Tensor(values[0], self.dim, self.start, self.stop, self.step)
        return every

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class Choose(Operation, frozen=True):
    """The elements at ``places`` along ``dim``, in that order."""

    dim: int
    places: tuple[int, ...]

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return the chosen elements."""
        chosen = torch.tensor(self.places, dtype=torch.int64, device=values[0].device)
        return values[0].index_select(self.dim % values[0].dim(), chosen)

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


class TakeRows(Operation, frozen=True):
    """Rows of a constant table [n, width], the first input, by the numbers in the second."""

    def run(self, values: Sequence[Tensor], rows: int) -> Tensor:
        """Return [rows, *shape, width]."""
        return functional.embedding(values[1], values[0][0])

    def flops(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return 0."""
        return 0


def aligned(value: Tensor, rank: int) -> Tensor:
    """Return a value with dimensions of one element put behind the rows, until it has ``rank`` dimensions."""
    missing = rank - value.dim()
    return value.reshape(value.shape[0], *(1,) * missing, *value.shape[1:]) if missing else value


def with_all_rows(values: Sequence[Tensor]) -> list[Tensor]:
    """Return values with as many rows each: those of one row are repeated."""
    counts = [value.size(0) for value in values]
    rows = next((count for count in counts if count != 1), 1)
    return [
        value if count == rows else value.expand(rows, *value.shape[1:])
        for value, count in zip(values, counts, strict=True)
    ]


def fill(arguments: Sequence[Argument], values: Sequence[Tensor]) -> list[Any]:
    """Return the arguments with values in the places of references."""
    return [values[each.position] if isinstance(each, Ref) else each for each in arguments]


def call(target: str, arguments: Sequence[Any]) -> Any:
    """Return what ATen's operator ``target`` returns for arguments in the order of its schema."""
    names = _keywords(target)
    first = len(arguments) if not names else min(len(arguments), _positional(target))
    return overload(target)(*arguments[:first], **dict(zip(names, arguments[first:], strict=False)))


@cache
def _keywords(target: str) -> tuple[str, ...]:
    return tuple(each.name for each in overload(target)._schema.arguments if each.kwarg_only)


@cache
def _positional(target: str) -> int:
    return sum(not each.kwarg_only for each in overload(target)._schema.arguments)


@cache
def overload(target: str) -> Any:
    """Return ATen's operator of a name such as ``add.Tensor``."""
    name, _, variant = target.partition(".")
    return getattr(getattr(torch.ops.aten, name), variant)


@cache
def dtype_named(name: str) -> torch.dtype:
    """Return PyTorch's dtype of a name such as ``float32``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name, such as ``float32``."""
    return str(dtype).removeprefix("torch.")
