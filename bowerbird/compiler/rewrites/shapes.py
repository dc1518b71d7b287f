"""Laws of shapes: they compute nothing, and bring together what the other laws look for."""

from __future__ import annotations

import math

from bowerbird.compiler.graph import Builder, Node
from bowerbird.compiler.operations import Concat, Expand, Permute, Reshape, Slice
from bowerbird.compiler.rewrite import reshaped


class OneStep:
    """Two reshapes or permutations are one, and those that change nothing are none.

    A permutation that moves dimensions of one element alone is a reshape.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the shorter way."""
        if not node.inputs:
            return None
        (given, *_), operation = node.inputs, node.operation
        match operation:
            case Reshape() | Expand() if node.shape == given.shape:
                return given
            case Reshape() if isinstance(given.operation, Reshape):
                return reshaped(build, given.inputs[0], node.shape)
            case Slice(_, _, _, step) if node.shape == given.shape and step == 1:
                return given
            case Concat() if len(node.inputs) == 1:
                return given
            case Permute():
                return _permuted(operation, given, node, build)
        return None


def _permuted(operation: Permute, given: Node, node: Node, build: Builder) -> Node | None:
    rank = len(given.shape)
    order = [each + rank for each in operation.dims]
    wide = [each for each in order if given.shape[each] != 1]
    if wide == sorted(wide):
        return reshaped(build, given, node.shape)
    if isinstance(given.operation, Permute):
        return build.add(Permute(tuple(given.operation.dims[each] for each in order)), given.inputs)
    return None


class ReshapeOfExpand:
    """reshape(expand(x)) = expand(reshape(x)), where dimensions of one element alone come or go."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the repetition of the reshaped value."""
        given = node.inputs[0] if isinstance(node.operation, Reshape) else None
        if given is None or not isinstance(given.operation, Expand):
            return None
        inner = given.inputs[0]
        sizes = (*(1,) * (len(given.shape) - len(inner.shape)), *inner.shape)
        wide = [own for own, size in zip(sizes, given.shape, strict=True) if size != 1]
        if [size for size in given.shape if size != 1] != [size for size in node.shape if size != 1]:
            return None
        kept = iter(wide)
        shape = tuple(1 if size == 1 else next(kept) for size in node.shape)
        return build.add(Expand(node.shape), [reshaped(build, inner, shape)])


class ConcatOfConcat:
    """[[a, b], c] = [a, b, c], along one dimension."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the flat concatenation."""
        operation = node.operation
        if not isinstance(operation, Concat) or not any(each.operation == operation for each in node.inputs):
            return None
        parts: list[Node] = []
        for each in node.inputs:
            parts += each.inputs if each.operation == operation else [each]
        return build.add(operation, parts)


class ReshapeOfConcat:
    """reshape([a; b]) = [reshape(a); reshape(b)], where a dimension of the new shape holds whole parts.

    That is dimension p, if as many elements stand before it as before the concatenated one, and if its length is a
    multiple of that one's.
    """

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the concatenation of reshaped parts."""
        if not isinstance(node.operation, Reshape) or not isinstance(node.inputs[0].operation, Concat):
            return None
        given = node.inputs[0]
        operation = given.operation
        assert isinstance(operation, Concat)
        before, length = math.prod(given.shape[: operation.dim]), given.shape[operation.dim]
        new = node.shape
        places = [p for p in range(len(new)) if math.prod(new[:p]) == before and new[p] % length == 0]
        if not places:
            return None
        place = places[0]
        factor = new[place] // length
        parts = [
            reshaped(build, each, (*new[:place], each.shape[operation.dim] * factor, *new[place + 1 :]))
            for each in given.inputs
        ]
        return build.add(Concat(place - len(new)), parts)


class PermuteOfConcat:
    """permute([a; b]) = [permute(a); permute(b)], along where the dimension went."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the concatenation of permuted parts."""
        operation, given = node.operation, node.inputs[0] if node.inputs else node
        if not isinstance(operation, Permute) or not isinstance(given.operation, Concat):
            return None
        if given.stage != "pair" or all(part.stage == "pair" for part in given.inputs):
            return None
        dim = operation.dims.index(given.operation.dim) - len(node.shape)
        return build.add(Concat(dim), [build.add(operation, [part]) for part in given.inputs])


class SliceOfConcat:
    """A part of a concatenation is made of the parts that it meets."""

    def apply(self, node: Node, build: Builder) -> Node | None:
        """Return the slice of fewer parts."""
        operation = node.operation
        if not isinstance(operation, Slice) or operation.step != 1:
            return None
        given = node.inputs[0]
        if not isinstance(given.operation, Concat) or given.operation.dim != operation.dim:
            return None
        parts, start = [], 0
        for each in given.inputs:
            length = each.shape[operation.dim]
            first, last = max(operation.start - start, 0), min(operation.stop - start, length)
            if first < last:
                whole = first == 0 and last == length
                parts.append(each if whole else build.add(Slice(operation.dim, first, last), [each]))
            start += length
        return build.add(Concat(operation.dim), parts) if parts else None
