"""What rules of lifting work with: values whose rows have a place, and the state of a lifting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bowerbird.compiler.capture import Call, Captured, Name
from bowerbird.compiler.graph import Builder, Node, Where
from bowerbird.compiler.operations import Cast, Operation, Ref, Reshape, name_of, overload
from bowerbird.compiler.size import ROWS, Rows, Size, row_shape
from bowerbird.compiler.stage import Stage
from bowerbird.compiler.whole import Counted, Dtype, Step, Unlifted, Whole
from bowerbird.errors import InputError


@dataclass(frozen=True, eq=False)
class Lifted:
    """One value: a row's node, where the rows were in the module's own tensor, and that tensor's shape."""

    node: Node
    rows: Rows | None
    shape: tuple[Size, ...]

    @property
    def rank(self) -> int:
        """The rank of the module's own tensor."""
        return len(self.shape)


@dataclass(frozen=True)
class Coupling:
    """An operator that could not be shown to keep rows apart, and why."""

    target: str
    reason: str
    where: Where


class Coupled(Exception):
    """A rule cannot show that rows are kept apart; its text says why."""


Rule = Callable[["Lifter", Call], Lifted]
RULES: dict[str, Rule] = {}
"""The rule of each operator by its target."""


def rule(*targets: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, function))
        return function

    return register


class Lifter:
    """The state of a lifting: values by the module's names."""

    def __init__(self, captured: Captured, stages: Mapping[str, Stage]) -> None:
        self.builder = Builder()
        self.captured = captured
        self.values: dict[str, Lifted | Unlifted] = {}
        self.couplings: list[Coupling] = []
        for name, inner in captured.inputs.items():
            shape = captured.shapes[inner]
            if not shape or shape[0] != ROWS or not all(size.fixed for size in shape[1:]):
                raise InputError(f"The input {name!r} does not have its rows first.", "Give tensors [rows, ...].")
            rows = Rows(0)
            node = self.builder.input(name, row_shape(shape, rows), captured.dtypes[inner], stages[name])
            self.values[inner] = Lifted(node, rows, shape)
        for name, tensor in captured.weights.items():
            shape = tuple(Size(0, each) for each in tensor.shape)
            self.values[name] = Lifted(self.builder.constant(tensor), None, shape)

    def lift(self, call: Call) -> None:
        """Make a call's value."""
        if torch.Tag.nondeterministic_seeded in overload(call.target).tags:
            raise InputError(f"{call.target} at {call.where} is random.", "A model that serves must not be.")
        self.builder.place = call.where
        try:
            self.values[call.name] = self._kept_apart(call)
        except Coupled as reason:
            self.values[call.name] = self._whole(call, str(reason))

    def output(self, name: str, value: str) -> Node:
        """Return an output's node, of row shape [] or [width]."""
        found = self.values[value]
        where = next((call.where for call in self.captured.calls if call.name == value), Where())
        if isinstance(found, Lifted) and found.shape and found.shape[0] == ROWS and found.rows == Rows(0):
            return found.node
        raise InputError(
            f"The output {name!r} of {where} is {_shown(self.captured.shapes[value])}, not one row per candidate.",
            "Return logits [rows] or [rows, width], the rows first.",
        )

    def make(self, call: Call, operation: Operation, inputs: list[Node], rows: Rows | None) -> Lifted:
        """Return a call's result by an operation on rows' nodes."""
        return self.finish(call, self.builder.add(operation, inputs, call.where), rows)

    def finish(self, call: Call, node: Node, rows: Rows | None) -> Lifted:
        """Return a node as a call's result, checked against the shape and dtype that PyTorch said it has."""
        for place, size in enumerate(call.shape):
            expected = Size(rows.fold, 0) if rows is not None and place == rows.dim else Size(0, size.plus)
            if size != expected:
                raise Coupled("its rows do not come out where they went in")
        if node.shape != row_shape(call.shape, rows):
            raise Coupled(f"a row's shape is {node.shape}, not {row_shape(call.shape, rows)}")
        if node.dtype != call.dtype:
            node = self.builder.add(Cast(call.dtype), [node], call.where)
        return Lifted(node, rows, call.shape)

    def get(self, argument: Any) -> Lifted:
        """Return the lifted value that an argument names."""
        found = self.values[argument.name] if isinstance(argument, Name) else None
        if not isinstance(found, Lifted):
            raise Coupled("what it is given has its rows in no one dimension")
        return found

    def keep(self, value: Lifted) -> Node:
        """Return a row's node with a dimension of one element where the rows were: the module's own rank."""
        if value.rows is None or value.rows.fold > 1:
            return value.node
        dim = value.rows.dim
        return self.reshape(value.node, (*value.node.shape[:dim], 1, *value.node.shape[dim:]))

    def reshape(self, node: Node, shape: tuple[int, ...]) -> Node:
        """Return a node of another shape."""
        return node if node.shape == shape else self.builder.add(Reshape(shape), [node])

    def _kept_apart(self, call: Call) -> Lifted:
        handler = RULES.get(call.target)
        if handler is None and torch.Tag.pointwise in overload(call.target).tags:
            handler = RULES["pointwise"]
        if handler is None:
            raise Coupled("the compiler has no rule for it")
        return handler(self, call)

    def _whole(self, call: Call, reason: str) -> Lifted | Unlifted:
        """Return a call on whole tensors: lifted again where one dimension is the rows, and else still to be made."""
        self.couplings.append(Coupling(call.target, reason, call.where))
        inputs: list[tuple[Node, Rows | None]] = []
        steps: list[Step] = []
        places: dict[int, int] = {}
        sources = [self.values[each.name] for each in _names(call.arguments)]
        for source in sources:
            for given in ((source.node, source.rows),) if isinstance(source, Lifted) else source.inputs:
                if not any(given[0] is node and given[1] == rows for node, rows in inputs):
                    inputs.append(given)
        for source in sources:
            if isinstance(source, Lifted):
                places[id(source)] = _place(inputs, source.node, source.rows)
            elif id(source) not in places:
                moved = [Ref(_place(inputs, *given)) for given in source.inputs]
                for step in source.steps:
                    moved.append(Ref(len(inputs) + len(steps)))
                    steps.append(_renumbered(step, moved))
                places[id(source)] = len(inputs) + len(steps) - 1
        by_name = {each.name: places[id(self.values[each.name])] for each in _names(call.arguments)}
        steps.append(Step(call.target, tuple(_whole_argument(each, by_name) for each in call.arguments), call.output))
        holders = [place for place, size in enumerate(call.shape) if not size.fixed]
        if len(holders) > 1 or any(call.shape[place] != ROWS for place in holders):
            return Unlifted(tuple(inputs), tuple(steps))
        rows = Rows(holders[0]) if holders else None
        operation = Whole(tuple(rows for _, rows in inputs), tuple(steps), rows)
        node = self.builder.add(operation, [node for node, _ in inputs], call.where)
        return Lifted(node, rows, call.shape)


def _place(inputs: list[tuple[Node, Rows | None]], node: Node, rows: Rows | None) -> int:
    return next(place for place, given in enumerate(inputs) if given[0] is node and given[1] == rows)


def _names(arguments: Any) -> list[Name]:
    found: list[Name] = []
    for each in arguments:
        if isinstance(each, Name):
            found.append(each)
        elif isinstance(each, list):
            found += _names(each)
    return found


def _whole_argument(argument: Any, places: Mapping[str, int]) -> Any:
    if isinstance(argument, Name):
        return Ref(places[argument.name])
    if isinstance(argument, Size):
        return argument.plus if argument.fixed else Counted(argument.times, argument.plus)
    if isinstance(argument, list):
        return tuple(_whole_argument(each, places) for each in argument)
    if isinstance(argument, torch.dtype):
        return Dtype(name_of(argument))
    return argument if isinstance(argument, bool | int | float | str | None) else None


def _renumbered(step: Step, moved: list[Ref]) -> Step:
    def turned(argument: Any) -> Any:
        if isinstance(argument, Ref):
            return moved[argument.position]
        return tuple(turned(each) for each in argument) if isinstance(argument, tuple) else argument

    return Step(step.target, tuple(turned(each) for each in step.arguments), step.output)


def _shown(shape: tuple[Size, ...]) -> list[str]:
    return [str(size.plus) if size.fixed else f"{size.times} rows + {size.plus}" for size in shape]
