"""The read program while it is being built: every distinct operation is one node."""

from __future__ import annotations

from typing import Any

import msgspec

from bowerbird.plan.spec import Fit, Node, Stage


class Nodes:
    """Nodes in order of their first use; ``fits`` are those whose constants are still to be fitted."""

    def __init__(self) -> None:
        self.list: list[Node] = []
        self.fits: dict[int, Fit] = {}
        self._index: dict[bytes, int] = {}

    def __getitem__(self, index: int) -> Node:
        return self.list[index]

    def add(self, op: str, stage: Stage, is_category: bool, **parts: Any) -> int:
        """Return the index of an operation, added on first use."""
        node = Node(op, stage, is_category, **parts)
        return self._append(node, msgspec.json.encode(node))

    def add_unfitted(self, op: str, is_category: bool, source: int, quantiles: int = 0) -> int:
        """Return the index of an operation on ``source`` that is to be fitted: moments, or ``quantiles``."""
        node = Node(op, self.list[source].stage, is_category, inputs=[source])
        at = self._append(node, msgspec.json.encode((node, quantiles) if quantiles else node))
        self.fits[at] = Fit(at, source, "quantiles" if quantiles else "moments", quantiles)
        return at

    def stage(self, inputs: list[int]) -> Stage:
        """Return the stage of what depends on ``inputs``."""
        stages = {self.list[index].stage for index in inputs}
        if stages <= {"request"}:
            return "request"
        return "item" if stages == {"item"} else "pair"

    def _append(self, node: Node, identity: bytes) -> int:
        if identity not in self._index:
            self._index[identity] = len(self.list)
            self.list.append(node)
        return self._index[identity]
