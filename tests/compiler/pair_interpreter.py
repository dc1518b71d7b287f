"""A pair program step by step in PyTorch, as short as it can be: what the lowering is tested with."""

from __future__ import annotations

import torch
from torch.nn import functional

_BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
           "minimum": torch.minimum}  # fmt: skip
_UNARY = {
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x, slope: functional.leaky_relu(x, slope),
    "scale_shift": lambda x, scale, shift: x * scale + shift,
    "clamp": lambda x, min=None, max=None: x.clamp(min, max),
    "elu": lambda x, alpha: functional.elu(x, alpha),
    "gelu": functional.gelu, "silu": functional.silu, "softplus": functional.softplus,
}  # fmt: skip


class PairInterpreter:
    """Same constructor and ``run`` as ``bowerbird.kernels.pair.PairProgram``, in float32 alone."""

    def __init__(self, spec, weights, precision):
        self.spec, self.weights = spec, {name: torch.from_numpy(value) for name, value in weights.items()}
        assert precision == "fp32"

    def run(self, request, items, count):
        given = {each["name"]: each for each in self.spec["inputs"]}
        assert set(request) | set(items) == set(given)
        values = {name: torch.from_numpy(value) for name, value in items.items()}
        for name, value in request.items():
            row = torch.from_numpy(value)
            values[name] = row if given[name]["length"] else row.expand(count, -1)
        for name, each in given.items():
            assert values[name].shape[1] == each["width"]
        for step in self.spec["steps"]:
            fields = {name: value for name, value in step.items() if name not in ("op", "in", "out")}
            values[step["out"]] = self._step(step["op"], [values[name] for name in step["in"]], fields, values)
        return {name: values[name].contiguous().numpy() for name in self.spec["outputs"]}

    def _layer(self, x, layer, added=0.0):
        z = x @ self.weights[layer["weight"]].T + added
        if "bias" in layer:
            z = z + self.weights[layer["bias"]]
        return _activated(z, layer.get("activation"))

    def _step(self, op, inputs, fields, values):
        x, *rest = inputs
        if op in _BINARY:
            return _BINARY[op](x, rest[0])
        match op:
            case "linear":
                added = sum((values[name] for name in fields.get("add", ())), torch.zeros(1))
                return self._layer(torch.cat(inputs, dim=1), fields, added)
            case "layer_norm":
                weight, bias = self.weights[fields["weight"]], self.weights[fields["bias"]]
                return functional.layer_norm(x, x.shape[1:], weight, bias, fields["eps"])
            case "softmax":
                return torch.softmax(x.unflatten(1, (-1, fields["group"])), 2).flatten(1)
            case "concat":
                return torch.cat(inputs, dim=1)
            case "slice":
                return x[:, fields["start"] : fields["stop"]]
            case "dot":
                return (x * rest[0]).sum(1, keepdim=True)
            case "weighted_sum":
                return torch.einsum("ne,new->nw", x, rest[0].unflatten(1, (x.shape[1], -1)))
            case "reduce":
                grouped = x.unflatten(1, (-1, fields.get("group", x.shape[1])))
                dim = 1 if fields.get("across") else 2
                return {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[fields["kind"]](grouped, dim)
            case "target_attention":
                return self._target_attention(x, rest[0], fields, values)
        return _activated(x, {"op": op, **fields})

    def _target_attention(self, query, part, fields, values):
        keys, pooled = values[fields["history"]], values[fields["values"]]
        first = {"weight": fields["product"], "activation": fields.get("activation")}
        z = self._layer(query[:, None] * keys, first, part[:, None] + values[fields["history_part"]])
        for layer in fields["layers"]:
            z = self._layer(z, layer)
        scores = z.squeeze(-1)
        seen = values[fields["mask"]].reshape(-1) != 0 if "mask" in fields else torch.ones(len(keys), dtype=torch.bool)
        if fields["softmax"]:
            weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), 1).nan_to_num(0.0)
        else:
            weights = scores * seen
        return weights @ pooled


def _activated(x, activation):
    if activation is None:
        return x
    name = activation["op"]
    options = {key: value for key, value in activation.items() if key != "op"}
    return (_UNARY.get(name) or getattr(torch, name))(x, **options)
