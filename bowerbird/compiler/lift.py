"""Lifting the rows out of a captured module: what it computes for many rows becomes what it computes for one.

Each value's layout (``Rows``) says where its rows are. A rule for each operator shows that row i of the result depends
on row i of the inputs alone, and says what one row's operation is. Where a rule cannot show it (a softmax over rows, a
product that contracts them), the operator couples rows: it is kept whole (``Whole``) and runs per request on all
candidates. Nothing is assumed of the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bowerbird.compiler.capture import Captured
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.lifting import (  # noqa: F401  # register their rules
    along,
    elements,
    indexing,
    norms,
    parts,
    products,
    reductions,
    shapes,
)
from bowerbird.compiler.lifting.lifter import Coupling, Lifter
from bowerbird.compiler.stage import Stage


@dataclass
class Lifting:
    """A row graph with what was learned on the way."""

    graph: RowGraph
    couplings: list[Coupling] = field(default_factory=list)


def lift(captured: Captured, stages: Mapping[str, Stage]) -> Lifting:
    """Return the row graph of a captured module whose inputs have these stages.

    Raises InputError, with the user's line, where an output has no row for each candidate.
    """
    lifter = Lifter(captured, stages)
    for call in captured.calls:
        lifter.lift(call)
    outputs = {name: lifter.output(name, value) for name, value in captured.outputs.items()}
    return Lifting(RowGraph(lifter.builder, outputs), lifter.couplings)
