"""What a backend does: makes callables of a staged program's graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram

Runner = Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]
"""From a graph's inputs by name and the number of rows to its outputs; tensors are [rows or 1, *shape]."""


@dataclass(frozen=True)
class Prepared:
    """A staged program that is ready to run; threads may share it.

    ``request`` runs once per request, with one row; ``item`` on items whose features changed; ``pair`` on all
    candidates of a request, given what the others left and the features that it reads itself.
    """

    request: Runner
    item: Runner
    pair: Runner

    def __call__(self, features: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return outputs [rows, *shape], all stages in order; features of the request have one row."""
        given = {**features, **self.request(features, 1), **self.item(features, rows)}
        return {name: value.expand(rows, *value.shape[1:]) for name, value in self.pair(given, rows).items()}


class Backend(Protocol):
    """A way to run staged programs on this host."""

    @property
    def name(self) -> str:
        """Its name in reports and settings."""
        ...

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What it can compute products in."""
        ...

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Compile a program; what takes long to compile is kept in the folder ``cache``, which is this program's own.

        Raises MissingExtraError where the backend is not installed, InputError for what it cannot run.
        """
        ...
