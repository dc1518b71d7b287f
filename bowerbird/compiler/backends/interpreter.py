"""PyTorch, operation by operation: needs no compilation, and is right for every program."""

from __future__ import annotations

from pathlib import Path

from bowerbird.compiler.backends.contract import Prepared
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import Precision, in_bfloat16
from bowerbird.compiler.staged import StagedProgram
from bowerbird.errors import InputError


class Interpreter:
    """Runs every operation as PyTorch's own."""

    name = "torch"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the program as steps."""
        request, item, pair = (
            Executable(graph) for graph in (program.request, program.item, lowered(program.pair, precision, self.name))
        )
        return Prepared(request, item, pair)


def lowered(graph: RowGraph, precision: Precision, backend: str) -> RowGraph:
    """Return the graph in a precision; raises InputError for int8."""
    if precision == "int8":
        raise InputError(f"The backend {backend!r} does not compute in int8.", "Choose fp32 or bf16.")
    return in_bfloat16(graph) if precision == "bf16" else graph
