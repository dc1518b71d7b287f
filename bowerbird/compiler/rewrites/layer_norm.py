"""Layer normalisation over a concatenation, before a linear layer."""

from __future__ import annotations

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Concat, LayerNorm, Linear, Reduce
from bowerbird.compiler.rewrite import by_stage, minus, plus, pointwise, reshaped, times


class LinearOfLayerNorm:
    """W norm(x) + b = (W' x - m w) / s + b', with W' = W diag γ, w = W' 1, b' = W β + b and x = [u; i; p].

    m is x's mean and s² = v + ε its variance, from sums per part: with n_s values of mean m_s and squared deviations
    q_s in part s, n m = Σ n_s m_s and n v = Σ q_s + Σ n_s (m_s - m)² (Chan, Golub and LeVeque, 1979). So W' x is a
    linear layer of a concatenation, and a candidate has the means to mix.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the scaled linear layer, where the concatenation's parts have several stages."""
        norm = node.inputs[0] if isinstance(node.operation, Linear) else None
        if norm is None or not isinstance(norm.operation, LayerNorm):
            return None
        given, factor, shift = norm.inputs
        if given.stage != "pair" or given.operation != Concat(-1) or len({p.stage for p in given.inputs}) < 2:
            return None
        _, weight, *bias = node.inputs
        scaled = times(build, weight, factor)
        sums = build.add(Reduce("sum.dim_IntList", (-1,)), [scaled])
        constant = build.add(Linear(), [shift, weight, *bias])
        mean, variance = moments(build, given)
        deviation = pointwise(build, "add.Tensor", variance, norm.operation.epsilon)
        inverse = pointwise(build, "rsqrt.default", deviation)
        centred = minus(build, build.add(Linear(), [given, scaled]), times(build, mean, sums))
        return plus(build, times(build, centred, inverse), constant)


def moments(build: Builder, concat: Node) -> tuple[Node, Node]:
    """Return the mean and the variance of a concatenation along its last dimension, [..., 1] each, from its parts'."""
    width = concat.shape[-1]
    parts = by_stage(build, concat)
    means = [_kept(build, "mean.dim", part) for part in parts]
    mean = None
    for part, each in zip(parts, means, strict=True):
        share = times(build, each, build.scalar(part.shape[-1] / width))
        mean = share if mean is None else plus(build, mean, share)
    assert mean is not None
    variance = None
    for part, each in zip(parts, means, strict=True):
        centred, offset = minus(build, part, each), minus(build, each, mean)
        within = _kept(build, "mean.dim", times(build, centred, centred))
        both = plus(build, within, times(build, offset, offset))
        share = times(build, both, build.scalar(part.shape[-1] / width))
        variance = share if variance is None else plus(build, variance, share)
    assert variance is not None
    return mean, variance


def _kept(build: Builder, target: str, node: Node) -> Node:
    reduced = build.add(Reduce(target, (-1,)), [node])
    return reshaped(build, reduced, (*node.shape[:-1], 1))
