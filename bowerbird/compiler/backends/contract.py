"""What a backend does: makes callables of a staged program's graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram
from bowerbird.kernels.pair_rows import StoredRows

Runner = Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]
"""From a graph's inputs by name and the number of rows to its outputs; tensors are [rows or 1, *shape]."""


@dataclass(frozen=True)
class Kept:
    """What the item stage left of the candidates' items, where it stands: rows of a matrix, by their numbers."""

    stored: StoredRows
    places: npt.NDArray[np.int64]
    shape: tuple[int, ...]

    def tensor(self) -> Tensor:
        """Return the rows as float32 [rows, *shape]."""
        return torch.from_numpy(self.stored.unpacked(self.places)).reshape(len(self.places), *self.shape)


Made = Tensor | npt.NDArray[np.float32]
"""What a stage leaves: a tensor, or an array of the native engine's, [rows, *shape] or [1, *shape]."""
Given = Mapping[str, Made | Kept]
"""Inputs by name: what stages left, features, and items' values where they stand."""
MakeRows = Callable[[Mapping[str, Any], int], Mapping[str, Made]]
"""From a graph's inputs by name, tensors or arrays [rows or 1, *shape], and the number of rows to its outputs."""


def as_array(value: Made | Kept) -> npt.NDArray[Any]:
    """Return a value as an array of its own type."""
    tensor = value.tensor() if isinstance(value, Kept) else value
    array: npt.NDArray[Any] = tensor.numpy() if isinstance(tensor, Tensor) else tensor
    return array


def as_tensor(value: Made | Kept) -> Tensor:
    """Return a value as a tensor."""
    if isinstance(value, Kept):
        return value.tensor()
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(value if value.flags.writeable else value.copy())


LEAST_ROWS = 32
"""Fewer rows than these PyTorch may compute to other last bits: products of very few go another way."""


@dataclass(frozen=True)
class Prepared:
    """A staged program that is ready to run; threads may share it.

    ``request`` runs once per request, with one row; ``item`` on items whose features changed; ``pair`` on all
    candidates of a request, given what the others left and the features that it reads itself. ``gathering`` is ``pair``
    on items' values as they are kept, where a backend can take them so. ``rows`` is ``pair`` on rows of as many
    requests, where it can: the same steps, on values of the request that stand in every row. Where it ``takes_arrays``,
    ``request`` and ``item`` may be given arrays for tensors. An item has the same bits in any company where ``item`` is
    given ``least_items`` at least. ``stacks`` are numbers, by a name, that ``pair`` and ``gathering`` may be given side
    by side under it, float32 [rows, numbers], instead of one by one; ``item_stacks`` are those of ``item``, which is
    quickest with a multiple of ``items_together``.
    """

    request: Callable[[Mapping[str, Any], int], Mapping[str, Made]]
    item: MakeRows
    pair: Callable[[Mapping[str, Any], int], dict[str, Tensor]]
    gathering: Callable[[Given, int], Mapping[str, Made]] | None = None
    takes_arrays: bool = False
    least_items: int = LEAST_ROWS
    rows: Callable[[Mapping[str, Made], int], dict[str, Tensor]] | None = None
    stacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    item_stacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    items_together: int = 1

    def of_kept(self, given: Given, rows: int) -> Mapping[str, Made]:
        """Return what ``pair`` does of items' values as they are kept."""
        if self.gathering is not None:
            return self.gathering(given, rows)
        return self.pair({name: as_tensor(each) for name, each in given.items()}, rows)

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
