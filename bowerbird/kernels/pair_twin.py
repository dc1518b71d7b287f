"""The NumPy twin of the native pair program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bowerbird.kernels.pair_activation import Values, Weights, activation_of
from bowerbird.kernels.pair_given import Given, Items
from bowerbird.kernels.pair_precision import Precision, product, product_precision
from bowerbird.kernels.pair_spec import BINARY, UNARY, PairSpec, PairStep

_ZERO = np.float32(0)


class PairTwin:
    """Runs a pair program step by step over whole matrices; same constructor and answers as ``PairProgram``."""

    def __init__(
        self, spec: Mapping[str, Any], weights: Weights, precision: Precision = "fp32", threads: int = 1
    ) -> None:
        self.spec = PairSpec.read(spec, weights)
        self.weights = weights
        self.precision = precision

    def run(self, request: Mapping[str, Values], items: Mapping[str, Items], count: int) -> dict[str, Values]:
        """Score ``count`` candidates; see ``PairProgram.run``."""
        given = Given.check(self.spec, request, items, count)
        values: dict[str, Values] = dict(given.request)
        for name in given.request:
            if self.spec.is_request_row(name):
                values[name] = np.broadcast_to(given.request[name], (count, self.spec.widths[name]))
        for name, each in given.items.items():
            values[name] = each[0].unpacked(each[1]) if isinstance(each, tuple) else each
        for step in self.spec.steps:
            values[step.out] = np.asarray(_STEPS[step.op](self, step, values), np.float32)
        return {name: np.ascontiguousarray(values[name]) for name in self.spec.outputs}

    def layer(self, fields: Mapping[str, Any], x: Values, add: Values | np.float32 = _ZERO) -> Values:
        """Return activation(x @ weight.T + bias + add) in the layer's precision."""
        weight = self.weights[fields["weight"]]
        asked = fields.get("precision") or self.precision
        z = product(x, weight, product_precision(asked, weight.shape[1], weight.shape[0])) + add
        if fields.get("bias") is not None:
            z = z + self.weights[fields["bias"]]
        return activation_of(fields.get("activation"), weight.shape[0], self.weights)(np.asarray(z, np.float32))


_All = Mapping[str, Values]


def _linear(twin: PairTwin, step: PairStep, values: _All) -> Values:
    count = len(values[(*step.inputs, *step.beside)[0]])
    x = np.concatenate([np.zeros((count, 0), np.float32), *(values[name] for name in step.inputs)], axis=1)
    y = twin.layer(step.fields, x, sum((values[name] for name in step.fields.get("add", ())), _ZERO))
    return y * values[step.fields["times"]] + values[step.fields["plus"]] if "times" in step.fields else y


_OPERATORS: dict[str, Callable[[Values, Values], Values]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _binary(twin: PairTwin, step: PairStep, values: _All) -> Values:
    return _OPERATORS[step.op](values[step.inputs[0]], values[step.inputs[1]])


def _unary(twin: PairTwin, step: PairStep, values: _All) -> Values:
    x = values[step.inputs[0]]
    return activation_of(step.fields, x.shape[1], twin.weights)(x)


def _layer_norm(twin: PairTwin, step: PairStep, values: _All) -> Values:
    x = values[step.inputs[0]]
    centred = x - x.mean(axis=1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(step.fields["eps"]))
    if step.fields.get("weight") is not None:
        normal = normal * twin.weights[step.fields["weight"]]
    bias = step.fields.get("bias")
    return np.asarray(normal if bias is None else normal + twin.weights[bias])


def _grouped(step: PairStep, x: Values) -> Values:
    group = int(step.fields.get("group") or x.shape[1])
    return x.reshape(len(x), x.shape[1] // group, group)


def _softmax(twin: PairTwin, step: PairStep, values: _All) -> Values:
    x = values[step.inputs[0]]
    return softmax(_grouped(step, x), 2).reshape(x.shape)


def softmax(x: Values, axis: int) -> Values:
    """Return exp(x) over its sum along an axis."""
    power = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(power / power.sum(axis=axis, keepdims=True), np.float32)


def _reduce(twin: PairTwin, step: PairStep, values: _All) -> Values:
    function: Any = {"sum": np.sum, "mean": np.mean, "max": np.max}[step.fields["kind"]]
    return np.asarray(function(_grouped(step, values[step.inputs[0]]), axis=1 if step.fields.get("across") else 2))


def _concat(twin: PairTwin, step: PairStep, values: _All) -> Values:
    return np.concatenate([values[name] for name in step.inputs], axis=1)


def _slice(twin: PairTwin, step: PairStep, values: _All) -> Values:
    return values[step.inputs[0]][:, int(step.fields["start"]) : int(step.fields["stop"])]


def _weighted_sum(twin: PairTwin, step: PairStep, values: _All) -> Values:
    gates = values[step.inputs[0]]
    experts = np.concatenate([values[name] for name in step.inputs[1:]], axis=1)
    stacked = experts.reshape(len(gates), gates.shape[1], experts.shape[1] // gates.shape[1])
    return np.asarray(np.einsum("ne,new->nw", gates, stacked))


def _dot(twin: PairTwin, step: PairStep, values: _All) -> Values:
    return np.asarray((values[step.inputs[0]] * values[step.inputs[1]]).sum(axis=1, keepdims=True))


def _field_dots(twin: PairTwin, step: PairStep, values: _All) -> Values:
    x = values[step.inputs[0]]
    width = int(step.fields["width"])
    parts = x.reshape(len(x), x.shape[1] // width, width)
    left, right = np.triu_indices(parts.shape[1], 1)
    return np.asarray((parts[:, left] * parts[:, right]).sum(axis=2))


def _take(twin: PairTwin, step: PairStep, values: _All) -> Values:
    return np.concatenate([values[name] for name in step.inputs], axis=1)[:, step.fields["places"]]


def _matrices(x: Values, shape: tuple[int, ...], strides: Sequence[int]) -> Values:
    """Return [rows, *shape] of elements that lie ``strides`` columns apart."""
    places = sum(np.arange(size).reshape(-1, *(1,) * (2 - at)) * strides[at] for at, size in enumerate(shape))
    return np.asarray(x[:, places])


def _product(twin: PairTwin, step: PairStep, values: _All) -> Values:
    left, right = (values[name] for name in step.inputs)
    batch, rows, inner, columns = step.fields["sizes"]
    first = _matrices(left, (batch, rows, inner), step.fields["left"])
    second = _matrices(right, (batch, inner, columns), step.fields["right"])
    return (first @ second).reshape(len(left), batch * rows * columns)


def _field_attention(twin: PairTwin, step: PairStep, values: _All) -> Values:
    heads, width = int(step.fields["heads"]), int(step.fields["width"])
    given = [values[name] for name in step.inputs]
    query, key = (each.reshape(len(each), heads, each.shape[1] // (heads * width), width) for each in given[:2])
    keys = key.shape[2]
    value = given[2].reshape(len(key), heads, keys, given[2].shape[1] // (heads * keys))
    scores = query @ key.swapaxes(2, 3) * np.float32(step.fields.get("scale", 1.0))
    mixed = softmax(scores, 3) @ value
    return np.asarray(mixed.reshape(len(mixed), math.prod(mixed.shape[1:])))


def _seen(step: PairStep, values: _All, length: int) -> Any:
    mask = step.fields.get("mask")
    return np.ones(length, bool) if mask is None else values[mask].reshape(-1) != 0


def _pooled(scores: Values, values: Values, normalise: bool) -> Values:
    if normalise and scores.shape[1]:
        scores = softmax(scores, 1)
    return np.asarray(scores @ values)


def _target_attention(twin: PairTwin, step: PairStep, values: _All) -> Values:
    query, query_part = (values[name] for name in step.inputs)
    history = values[step.fields["history"]]
    seen = _seen(step, values, len(history))
    keys, part = history[seen], values[step.fields["history_part"]][seen]
    pooled = values[step.fields["values"]][seen] if step.fields.get("values") is not None else keys
    met = (query[:, None] * keys).reshape(-1, query.shape[1])
    added = (query_part[:, None] + part).reshape(-1, query_part.shape[1])
    first = {"weight": step.fields["product"], "activation": step.fields.get("activation")}
    asked = step.fields.get("precision")
    z = twin.layer({**first, "precision": asked}, met, added)
    for layer in step.fields["layers"]:
        z = twin.layer({"precision": asked, **layer}, z)
    return _pooled(z.reshape(len(query), len(keys)), pooled, bool(step.fields.get("softmax")))


def _attention(twin: PairTwin, step: PairStep, values: _All) -> Values:
    query, all_keys = values[step.inputs[0]], values[step.fields["keys"]]
    seen = _seen(step, values, len(all_keys))
    heads, scale = int(step.fields.get("heads", 1)), np.float32(step.fields.get("scale", 1.0))
    keys, pooled = all_keys[seen], values[step.fields["values"]][seen]
    parts = [np.split(each, heads, axis=1) for each in (query, keys, pooled)]
    return np.concatenate([_pooled(q @ k.T * scale, v, True) for q, k, v in zip(*parts, strict=True)], axis=1)


_STEPS: dict[str, Callable[[PairTwin, PairStep, _All], Values]] = {
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
