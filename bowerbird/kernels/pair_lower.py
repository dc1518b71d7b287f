"""From a checked pair program to the numbered values and steps that the native engine takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bowerbird.kernels.pair_activation import Activation, Weights, activation_of
from bowerbird.kernels.pair_precision import product_precision
from bowerbird.kernels.pair_spec import BINARY, UNARY, PairSpec, PairStep

_Fields = dict[str, Any]


class Lowering:
    """Numbers the values of a program: what ``_native.PairProgram`` takes.

    ``values`` are (source, width); ``layers`` stand once, however many steps multiply with them.
    """

    def __init__(self, spec: PairSpec, weights: Weights, precision: str) -> None:
        self.spec, self.weights, self.precision = spec, weights, precision
        self.numbers: dict[str, int] = {}
        self.values: list[tuple[str, int]] = []
        self.layers: list[_Fields] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self.steps: list[_Fields] = []
        for name, each in spec.inputs.items():
            self.numbers[name] = self.value("sequence" if each.length else each.stage, each.width)
        for step in spec.steps:
            self.numbers[step.out] = self.value("step", spec.widths[step.out])
            _LOWERED[step.op](self, step)
        self.outputs = [self.numbers[name] for name in spec.outputs]

    def value(self, source: str, width: int) -> int:
        """Number a new value."""
        self.values.append((source, width))
        return len(self.values) - 1

    def emit(self, op: str, step: PairStep, **fields: Any) -> None:
        """Add a native step with the program step's inputs and output, unless other ones are given."""
        named = {"op": op, "out": self.numbers[step.out], "in": [self.numbers[name] for name in step.inputs]}
        self.steps.append({**named, **fields})

    def layer(self, step: PairStep, fields: Mapping[str, Any]) -> int:
        """Return the number of a layer of weight, bias and activation in the precision that it is computed in."""
        weight = self.weights[fields["weight"]]
        asked = fields.get("precision") or step.fields.get("precision") or self.precision
        precision = product_precision(asked, weight.shape[1], weight.shape[0])
        key = (fields["weight"], fields.get("bias"), repr(fields.get("activation")), precision)
        if key not in self._known:
            self._known[key] = len(self.layers)
            function = _function(activation_of(fields.get("activation"), weight.shape[0], self.weights))
            arrays = {"weight": np.ascontiguousarray(weight), "bias": self.optional(fields.get("bias"))}
            self.layers.append({**arrays, "precision": precision, **function})
        return self._known[key]

    def optional(self, name: str | None) -> Any:
        """Return a weight, or None where the program names none."""
        return None if name is None else np.ascontiguousarray(self.weights[name])

    def adds(self, step: PairStep) -> list[int]:
        """Return the numbers of a step's added terms."""
        return [self.numbers[name] for name in step.fields.get("add", ())]

    def sequences(self, step: PairStep, **fields: str) -> dict[str, int]:
        """Return the numbers of sequences by native field, and of the mask where there is one."""
        found = {native: self.numbers[step.fields[name]] for native, name in fields.items()}
        mask = step.fields.get("mask")
        return found if mask is None else {**found, "mask": self.numbers[mask]}


def _function(activation: Activation) -> _Fields:
    return {"function": activation.name, "arrays": list(activation.arrays), "numbers": list(activation.numbers)}


def _linear(lowering: Lowering, step: PairStep) -> None:
    scaled = {"factor": step.fields["times"], "after": step.fields["plus"]} if "times" in step.fields else {}
    numbers = {native: lowering.numbers[name] for native, name in scaled.items()}
    lowering.emit("linear", step, layers=[lowering.layer(step, step.fields)], adds=lowering.adds(step), **numbers)


def _binary(lowering: Lowering, step: PairStep) -> None:
    lowering.emit("binary", step, binary=step.op)


def _unary(lowering: Lowering, step: PairStep) -> None:
    width = lowering.spec.widths[step.out]
    lowering.emit("map", step, **_function(activation_of(step.fields, width, lowering.weights)))


def _layer_norm(lowering: Lowering, step: PairStep) -> None:
    names = {name: lowering.optional(step.fields.get(name)) for name in ("weight", "bias")}
    lowering.emit("layer_norm", step, number=float(step.fields["eps"]), **names)


def _group(lowering: Lowering, step: PairStep) -> int:
    return int(step.fields.get("group") or lowering.spec.widths[step.inputs[0]])


def _softmax(lowering: Lowering, step: PairStep) -> None:
    lowering.emit("softmax", step, group=_group(lowering, step))


def _reduce(lowering: Lowering, step: PairStep) -> None:
    across = bool(step.fields.get("across"))
    lowering.emit("reduce", step, reduction=step.fields["kind"], group=_group(lowering, step), across=across)


def _slice(lowering: Lowering, step: PairStep) -> None:
    lowering.emit("slice", step, group=int(step.fields["start"]))


def _field_dots(lowering: Lowering, step: PairStep) -> None:
    lowering.emit("field_dots", step, group=int(step.fields["width"]))


def _take(lowering: Lowering, step: PairStep) -> None:
    lowering.emit("take", step, places=[int(place) for place in step.fields["places"]])


def _product(lowering: Lowering, step: PairStep) -> None:
    sizes, left, right = ([int(each) for each in step.fields[name]] for name in ("sizes", "left", "right"))
    lowering.emit("product", step, sizes=sizes, left=left, right=right)


def _field_attention(lowering: Lowering, step: PairStep) -> None:
    heads, width, scale = (step.fields.get(name, 1.0) for name in ("heads", "width", "scale"))
    lowering.emit("field_attention", step, heads=int(heads), group=int(width), number=float(scale))


def _target_attention(lowering: Lowering, step: PairStep) -> None:
    first = {"weight": step.fields["product"], "activation": step.fields.get("activation")}
    layers = [lowering.layer(step, layer) for layer in (first, *step.fields["layers"])]
    values = "values" if step.fields.get("values") is not None else "history"
    sequences = lowering.sequences(step, keys="history", keys_part="history_part", values=values)
    lowering.emit("target_attention", step, layers=layers, softmax=bool(step.fields.get("softmax")), **sequences)


def _attention(lowering: Lowering, step: PairStep) -> None:
    heads, scale = int(step.fields.get("heads", 1)), float(step.fields.get("scale", 1.0))
    sequences = lowering.sequences(step, keys="keys", values="values")
    lowering.emit("attention", step, heads=heads, number=scale, **sequences)


def _same(name: str) -> Callable[[Lowering, PairStep], None]:
    return lambda lowering, step: lowering.emit(name, step)


_LOWERED: dict[str, Callable[[Lowering, PairStep], None]] = {
    "linear": _linear,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "reduce": _reduce,
    "slice": _slice,
    "field_dots": _field_dots,
    "take": _take,
    "product": _product,
    "field_attention": _field_attention,
    "target_attention": _target_attention,
    "attention": _attention,
    **{name: _same(name) for name in ("concat", "weighted_sum", "dot")},
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(UNARY, _unary),
}
