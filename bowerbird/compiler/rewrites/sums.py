"""Laws of sums: terms of one stage are added at that stage."""

from __future__ import annotations

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Concat, Linear, Reduce
from bowerbird.compiler.rewrite import binary, by_stage, minus, plus, times
from bowerbird.compiler.stage import STAGES, Stage

_SUMS = ("add.Tensor", "sub.Tensor")
_Term = tuple[int, Node]


class SumByStage:
    """a + b + c + d = ((a + c) + b) + d, terms of one stage first: embedding sums and first-order terms.

    Differences count as terms of the other sign.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the sum in the order of its terms' stages, where that brings terms of one earlier stage together."""
        if node.stage != "pair" or binary(node, *_SUMS) is None:
            return None
        terms = _terms(node, node)
        groups: dict[Stage, list[_Term]] = {}
        for term in terms:
            groups.setdefault(term[1].stage, []).append(term)
        if all(len(group) == 1 for stage, group in groups.items() if stage != "pair") or len(terms) < 3:
            return None
        total: _Term | None = None
        for stage in STAGES:
            part = _total(build, groups.get(stage, []))
            total = part if total is None else _combined(build, total, part) if part else total
        assert total is not None
        return total[1] if total[0] > 0 and total[1].shape == node.shape else None


def _terms(node: Node, root: Node) -> list[_Term]:
    """Return the signed terms of a sum; a value that is there before the pair is one term, however it is made."""
    found = binary(node, *_SUMS)
    if found is None or node.stage != "pair" or node.dtype != root.dtype:
        return [(1, node)]
    sign = 1 if binary(node, "add.Tensor") else -1
    return _terms(found[0], root) + [(sign * each, term) for each, term in _terms(found[1], root)]


def _total(build: Builder, terms: list[_Term]) -> _Term | None:
    """Return the sum of terms, those to be added first."""
    total: _Term | None = None
    for term in sorted(terms, key=lambda term: -term[0]):
        total = term if total is None else _combined(build, total, term)
    return total


def _combined(build: Builder, first: _Term, second: _Term) -> _Term:
    if first[0] == second[0]:
        return first[0], plus(build, first[1], second[1])
    return (1, minus(build, first[1], second[1])) if first[0] > 0 else (1, minus(build, second[1], first[1]))


class SumOfLinears:
    """(V x + a) ± (W x + b) = (V ± W) x + (a ± b), with one x."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return one linear layer."""
        terms = binary(node, *_SUMS)
        if terms is None or not all(isinstance(each.operation, Linear) for each in terms):
            return None
        (given, first, *bias), (other, second, *shift) = terms[0].inputs, terms[1].inputs
        if given is not other:
            return None
        combine = plus if binary(node, "add.Tensor") else minus
        inputs = [given, combine(build, first, second)]
        if bias and shift:
            inputs.append(combine(build, bias[0], shift[0]))
        elif bias:
            inputs.append(bias[0])
        elif shift:
            zero = build.scalar(0.0)
            inputs.append(combine(build, zero, shift[0]))
        return build.add(Linear(), inputs)


class ReduceOfConcat:
    """Σ [a; b] = Σ a + Σ b over the concatenated dimension: sums of fields, and FM's of their squares.

    A mean is a sum divided by the length.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the sum over parts, where they have several stages."""
        operation = node.operation
        if not isinstance(operation, Reduce) or operation.target not in ("sum.dim_IntList", "mean.dim"):
            return None
        given = node.inputs[0]
        if not isinstance(given.operation, Concat) or given.operation.dim not in operation.dims:
            return None
        if given.stage != "pair" or all(part.stage == "pair" for part in given.inputs) or node.dtype != given.dtype:
            return None
        total = None
        for part in by_stage(build, given):
            summed = build.add(Reduce("sum.dim_IntList", operation.dims), [part], node.where)
            total = summed if total is None else plus(build, total, summed)
        assert total is not None
        if operation.target == "sum.dim_IntList":
            return total
        count = 1
        for dim in operation.dims:
            count *= given.shape[dim]
        return times(build, total, build.scalar(1.0 / count))
