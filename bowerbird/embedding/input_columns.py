"""The columns of some inputs in blocks of rows: how long they are, and side by side."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from bowerbird.embedding.inputs import Inputs
from bowerbird.embedding.rows import RowBlock
from bowerbird.plan.columns import Chosen

Matrix = npt.NDArray[Any]


class InputColumns:
    """Some inputs; where their columns stand in blocks is worked out once."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._categories = Chosen([item.name for item in inputs.categories])
        self._numbers = Chosen([item.name for item in inputs.numbers])

    def __bool__(self) -> bool:
        inputs = self.inputs
        return bool(inputs.categories or inputs.numbers or inputs.vectors or inputs.sequences)

    @property
    def plain(self) -> bool:
        """Whether each column is one number a row: none is a vector or a sequence."""
        return not (self.inputs.vectors or self.inputs.sequences)

    def matrices(self, rows: RowBlock) -> list[Matrix]:
        """Return categories and numbers side by side, [columns, rows] each where there are some."""
        found: list[Matrix] = []
        if self._categories.names:
            found.append(self._categories.matrix(rows.categories))
        if self._numbers.names:
            found.append(self._numbers.matrix(rows.numbers))
        return found

    def lengths(self, rows: RowBlock) -> set[int]:
        """Return how many rows the columns have; one among longer ones of its kind counts as these."""
        found = {self._categories.length(rows.categories)} if self._categories.names else set()
        found |= {self._numbers.length(rows.numbers)} if self._numbers.names else set()
        found |= {len(rows.vectors[item.name]) for item in self.inputs.vectors}
        return found | {len(rows.sequences[item.name].mask) for item in self.inputs.sequences}
