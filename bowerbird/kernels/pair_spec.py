"""What a pair program is: named matrices of one row per candidate, and the steps between them, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from bowerbird.errors import InputError
from bowerbird.kernels.pair_activation import ACTIVATIONS, Weights, activation_of

BINARY = frozenset({"add", "sub", "mul", "div", "maximum", "minimum"})
UNARY = ACTIVATIONS - {"none"}


@dataclass(frozen=True)
class PairInput:
    """A matrix that is given: [N, width] by item, [1, width] by request, or [length, width] by request."""

    name: str
    stage: str
    width: int
    length: bool = False


@dataclass(frozen=True)
class PairStep:
    """One step: ``out`` [N, width] from earlier matrices; ``fields`` hold what is peculiar to the operation."""

    op: str
    out: str
    inputs: tuple[str, ...]
    fields: Mapping[str, Any]

    def field(self, name: str) -> Any:
        """Return a field that the operation needs."""
        if name not in self.fields:
            self.refuse(f"has no {name!r}", "Give it.")
        return self.fields[name]

    @property
    def beside(self) -> tuple[str, ...]:
        """The matrices that a linear step adds, or multiplies with, beside its inputs."""
        scaled = [self.fields[name] for name in ("times", "plus") if name in self.fields]
        return (*self.fields.get("add", ()), *scaled)

    def refuse(self, what: str, remedy: str) -> NoReturn:
        """Raise an InputError about this step."""
        raise InputError(f"Step {self.op} -> {self.out!r} {what}.", remedy)


@dataclass
class PairSpec:
    """A checked program: its inputs and steps in order, its outputs, and the width of every matrix."""

    inputs: dict[str, PairInput]
    steps: list[PairStep]
    outputs: list[str]
    widths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, spec: Mapping[str, Any], weights: Weights) -> PairSpec:
        """Check a JSON-able spec against its weights; InputError names the step, the value and the remedy."""
        inputs = {each["name"]: _input(each) for each in spec["inputs"]}
        if len(inputs) != len(spec["inputs"]):
            raise InputError("Two inputs of a pair program have one name.", "Give each its own.")
        made = cls(inputs, [_step(each) for each in spec["steps"]], list(spec["outputs"]))
        made.widths = {name: each.width for name, each in inputs.items()}
        for step in made.steps:
            if step.out in made.widths:
                step.refuse("writes a name that is taken", "Give each step a name of its own.")
            made.widths[step.out] = _width(step, made, weights)
        for name in made.outputs:
            if made.is_sequence(name) or name not in made.widths:
                raise InputError(f"Output {name!r} is no matrix of one row per candidate.", "Name a step or an input.")
        return made

    def is_sequence(self, name: str) -> bool:
        """Return whether a name is an input of one row per position."""
        return name in self.inputs and self.inputs[name].length

    def is_request_row(self, name: str) -> bool:
        """Return whether a name is an input of one row for all candidates."""
        return name in self.inputs and self.inputs[name].stage == "request" and not self.inputs[name].length


def _input(given: Mapping[str, Any]) -> PairInput:
    made = PairInput(given["name"], given["stage"], int(given["width"]), bool(given.get("length", False)))
    if made.stage not in ("item", "request") or (made.length and made.stage == "item") or made.width < 1:
        raise InputError(f"Input {given!r} cannot be.", "Its stage is item or request, only the latter has a length.")
    return made


def _step(given: Mapping[str, Any]) -> PairStep:
    inputs = given["in"]
    step = PairStep(given["op"], given["out"], tuple([inputs] if isinstance(inputs, str) else inputs), given)
    if step.op not in _WIDTHS:
        near = difflib.get_close_matches(step.op, sorted(_WIDTHS), 1)
        step.refuse("is no known operation", f"Did you mean {near[0]!r}?" if near else f"Use one of {sorted(_WIDTHS)}.")
    return step


def _width(step: PairStep, spec: PairSpec, weights: Weights) -> int:
    for name in (*step.inputs, *step.beside):
        if name not in spec.widths or spec.is_sequence(name):
            step.refuse(
                f"reads {name!r}, which is no matrix of one row per candidate", "Name an input or earlier step."
            )
    return _WIDTHS[step.op](step, [spec.widths[name] for name in step.inputs], spec, weights)


def _array(step: PairStep, weights: Weights, name: str, *shape: int) -> None:
    if name not in weights:
        step.refuse(f"needs weight {name!r}", "Pass it in the weights.")
    if weights[name].dtype != np.float32 or weights[name].shape != shape:
        step.refuse(f"has weight {name!r} of {weights[name].dtype} {weights[name].shape}", f"It is float32 {shape}.")


def _outputs(step: PairStep, weights: Weights, name: str) -> int:
    if name not in weights or weights[name].ndim != 2:
        step.refuse(f"needs a matrix {name!r}", "Pass it in the weights.")
    return int(weights[name].shape[0])


def _count(step: PairStep, widths: list[int], count: int) -> None:
    if len(widths) != count:
        step.refuse(f"has {len(widths)} inputs", f"Give {count}.")


def _layer(step: PairStep, fields: Mapping[str, Any], inputs: int, weights: Weights) -> int:
    outputs = _outputs(step, weights, fields["weight"])
    _array(step, weights, fields["weight"], outputs, inputs)
    if fields.get("bias") is not None:
        _array(step, weights, fields["bias"], outputs)
    activation_of(fields.get("activation"), outputs, weights)
    return outputs


def _linear(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    step.field("weight")
    outputs = _layer(step, step.fields, sum(widths), weights)
    if not widths and not step.fields.get("add"):
        step.refuse("is of nothing", "Give inputs, or terms to add.")
    if ("times" in step.fields) != ("plus" in step.fields):
        step.refuse("has only one of 'times' and 'plus'", "Give both or none.")
    for name in step.beside:
        if spec.widths[name] != outputs:
            step.refuse(f"adds {name!r} of width {spec.widths[name]}", f"It must be {outputs} wide.")
    return outputs


def _binary(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 2)
    if widths[0] != widths[1] and 1 not in widths:
        step.refuse(f"has inputs of widths {widths}", "They are equal, or one is 1.")
    return max(widths)


def _unary(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 1)
    activation_of(step.fields, widths[0], weights)
    return widths[0]


def _layer_norm(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 1)
    for name in ("weight", "bias"):
        if step.fields.get(name) is not None:
            _array(step, weights, step.fields[name], widths[0])
    step.field("eps")
    return widths[0]


def _grouped(step: PairStep, widths: list[int]) -> int:
    _count(step, widths, 1)
    group = int(step.fields.get("group") or widths[0])
    if group < 1 or widths[0] % group:
        step.refuse(f"groups {widths[0]} columns by {group}", "A group divides the width.")
    return group


def _softmax(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _grouped(step, widths)
    return widths[0]


def _reduce(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    if step.field("kind") not in ("sum", "mean", "max"):
        step.refuse(f"has kind {step.fields['kind']!r}", "Use sum, mean or max.")
    group = _grouped(step, widths)
    return group if step.fields.get("across") else widths[0] // group


def _concat(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    return sum(widths) if widths else step.refuse("has no inputs", "Give one at least.")


def _slice(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 1)
    start, stop = int(step.field("start")), int(step.field("stop"))
    if not 0 <= start < stop <= widths[0]:
        step.refuse(f"takes columns {start}:{stop} of {widths[0]}", "Stay within the width.")
    return stop - start


def _weighted_sum(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    total = sum(widths[1:])
    if len(widths) < 2 or total % widths[0] or (len(widths) > 2 and set(widths[1:]) != {total // widths[0]}):
        step.refuse(f"has widths {widths}", "Give gates [N, e] and e experts of one width, or one matrix of all.")
    return total // widths[0]


def _dot(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 2)
    return 1 if widths[0] == widths[1] else step.refuse(f"has inputs of widths {widths}", "They must be equal.")


def _field_dots(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 1)
    fields, rest = divmod(widths[0], max(1, int(step.field("width"))))
    if rest or fields < 2:
        step.refuse(f"has {widths[0]} columns", f"Give two fields of width {step.fields['width']} or more.")
    return fields * (fields - 1) // 2


def _take(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    places = step.field("places")
    if not places or not all(0 <= place < sum(widths) for place in places):
        step.refuse(f"takes columns {places} of {sum(widths)}", "Name one at least, and stay within the width.")
    return len(places)


def _product(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 2)
    batch, rows, inner, columns = (int(each) for each in step.field("sizes"))
    if min(batch, rows, inner, columns) < 1:
        step.refuse(f"has sizes {step.fields['sizes']}", "Each is one at least.")
    for name, width, last in (
        ("left", widths[0], (batch - 1, rows - 1, inner - 1)),
        ("right", widths[1], (batch - 1, inner - 1, columns - 1)),
    ):
        strides = step.field(name)
        if min(strides) < 0 or sum(by * count for by, count in zip(strides, last, strict=True)) >= width:
            step.refuse(f"has {name} strides {strides} over {width} columns", "Stay within the width.")
    return batch * rows * columns


def _field_attention(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 3)
    heads, width = int(step.field("heads")), int(step.field("width"))
    if min(heads, width) < 1 or widths[0] % (heads * width) or widths[1] % (heads * width):
        step.refuse(f"has {heads} heads of width {width} over {widths[:2]} columns", "They divide queries and keys.")
    keys = widths[1] // width
    if widths[2] % keys:
        step.refuse(f"has {widths[2]} columns of values", f"{heads} heads have {keys // heads} values each.")
    return widths[0] // width * (widths[2] // keys)


def _sequence(step: PairStep, spec: PairSpec, name: str) -> int:
    given = step.field(name)
    if not spec.is_sequence(given):
        step.refuse(f"has {name} {given!r}", "Name an input of the request with a length.")
    return spec.inputs[given].width


def _mask(step: PairStep, spec: PairSpec) -> None:
    if step.fields.get("mask") is not None and _sequence(step, spec, "mask") != 1:
        step.refuse("has a mask that is wider than 1", "A mask has one number a position.")


def _target_attention(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 2)
    first = widths[1]
    _array(step, weights, step.field("product"), first, widths[0])
    if (_sequence(step, spec, "history"), _sequence(step, spec, "history_part")) != (widths[0], first):
        step.refuse("has a history of other widths", f"history is {widths[0]} wide, history_part {first}.")
    activation_of(step.fields.get("activation"), first, weights)
    for layer in step.field("layers"):
        first = _layer(step, layer, first, weights)
    if first != 1 or not step.fields["layers"]:
        step.refuse(f"ends in {first} outputs", "The last layer has one.")
    _mask(step, spec)
    return _sequence(step, spec, "values" if step.fields.get("values") is not None else "history")


def _attention(step: PairStep, widths: list[int], spec: PairSpec, weights: Weights) -> int:
    _count(step, widths, 1)
    heads, values = int(step.fields.get("heads", 1)), _sequence(step, spec, "values")
    if heads < 1 or _sequence(step, spec, "keys") != widths[0] or widths[0] % heads or values % heads:
        step.refuse(f"has {heads} heads of {widths[0]} and {values} columns", "Heads divide both; keys fit the query.")
    _mask(step, spec)
    return values


_Width = Callable[[PairStep, list[int], PairSpec, Weights], int]
_WIDTHS: dict[str, _Width] = {
    "linear": _linear,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "reduce": _reduce,
    "concat": _concat,
    "slice": _slice,
    "weighted_sum": _weighted_sum,
    "dot": _dot,
    "field_dots": _field_dots,
    "take": _take,
    "product": _product,
    "field_attention": _field_attention,
    "target_attention": _target_attention,
    "attention": _attention,
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(UNARY, _unary),
}
