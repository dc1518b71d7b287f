"""Tables that PyTorch trains: every row takes part in every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ExactTables(nn.Module):
    """The rows of several vocabularies of one width, end to end in one parameter: one lookup serves them all."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(0, dimension))
        self._counts: dict[str, int] = {}

    def __contains__(self, vocabulary: str) -> bool:
        return vocabulary in self._counts

    @property
    def vocabularies(self) -> list[str]:
        """Whose rows these are, in order."""
        return list(self._counts)

    def view(self, vocabulary: str) -> Tensor:
        """Return a vocabulary's rows, float32 [rows, dimension], a view."""
        start = self.starts([vocabulary])[0]
        return self.rows[start : start + self._counts[vocabulary]]

    def starts(self, vocabularies: Sequence[str]) -> list[int]:
        """Return where vocabularies' rows begin."""
        first, places = 0, {}
        for name, count in self._counts.items():
            places[name] = first
            first += count
        return [places[name] for name in vocabularies]

    def put(self, vocabulary: str, rows: Tensor) -> None:
        """Set a vocabulary's rows [rows, dimension]; the parameter is a new one afterwards."""
        parts = {name: self.view(name).detach() for name in self._counts} | {vocabulary: rows.detach()}
        self._set(parts)

    def remove(self, vocabulary: str) -> Tensor:
        """Take a vocabulary out; return its rows."""
        parts = {name: self.view(name).detach() for name in self._counts}
        taken = parts.pop(vocabulary).clone()
        self._set(parts)
        return taken

    def forward(self, places: Tensor) -> Tensor:
        """Return the rows at ``places`` (counted over all vocabularies), float32 [..., dimension]."""
        return functional.embedding(places, self.rows)

    def _set(self, parts: dict[str, Tensor]) -> None:
        self._counts = {name: len(rows) for name, rows in parts.items()}
        self.rows = nn.Parameter(torch.cat([*parts.values(), self.rows.detach()[:0]]))
