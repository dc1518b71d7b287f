"""Normalisations: not over the rows."""

from __future__ import annotations

import math

import torch

from bowerbird.compiler.capture import Call
from bowerbird.compiler.lifting.layout import apart, plain_size, with_defaults
from bowerbird.compiler.lifting.lifter import Coupled, Lifted, Lifter, rule
from bowerbird.compiler.operations import LayerNorm, Pointwise, Ref, Softmax


@rule("softmax.int", "_softmax.default")
def softmax(lifter: Lifter, call: Call) -> Lifted:
    """Weights along a dimension that is not the rows'."""
    given = lifter.get(call.arguments[0])
    dim = apart(given, call.arguments[1], "it is a softmax over rows")
    return lifter.make(call, Softmax(dim), [given.node], given.rows)


@rule("layer_norm.default")
def layer_norm(lifter: Lifter, call: Call) -> Lifted:
    """Statistics over the last dimensions, which must not be the rows'."""
    given = lifter.get(call.arguments[0])
    shape = [plain_size(each) or 0 for each in call.arguments[1]]
    for dim in range(given.rank - len(shape), given.rank):
        apart(given, dim, "it normalises over rows")
    width = math.prod(shape)
    filled = with_defaults(call.arguments[2:5], (None, None, 1e-5))
    ones, zeros = torch.ones(width), torch.zeros(width)
    weight, bias = (
        lifter.builder.constant(default) if each is None else lifter.reshape(lifter.get(each).node, (width,))
        for each, default in zip(filled[:2], (ones, zeros), strict=True)
    )
    outer = given.node.shape[: len(given.node.shape) - len(shape)]
    flat = lifter.reshape(given.node, (*outer, width))
    normed = lifter.builder.add(LayerNorm(float(filled[2])), [flat, weight, bias], call.where)
    return lifter.finish(call, lifter.reshape(normed, given.node.shape), given.rows)


@rule("_native_batch_norm_legit_no_training.default")
def batch_norm(lifter: Lifter, call: Call) -> Lifted:
    """With statistics that stand still: a factor and a shift for each channel, the second dimension."""
    given = lifter.get(call.arguments[0])
    if call.output != 0:
        raise Coupled("its statistics are used")
    channel = apart(given, 1, "its rows are the channels")
    weight, bias, mean, variance = (
        None if each is None else lifter.builder.value(lifter.get(each).node) for each in call.arguments[1:5]
    )
    assert mean is not None and variance is not None
    factor = (variance + float(call.arguments[6])).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * factor
    shape = (len(mean), *(1,) * (-channel - 1))
    constants = [lifter.builder.constant(each.reshape(shape)) for each in (factor, shift)]
    scaled = lifter.builder.add(Pointwise("mul.Tensor", (Ref(0), Ref(1))), [given.node, constants[0]], call.where)
    return lifter.make(call, Pointwise("add.Tensor", (Ref(0), Ref(1))), [scaled, constants[1]], given.rows)
