"""The native engine for what is left per candidate; what it has no step for stays PyTorch's, before or after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Prepared
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.pair.lower import answer_name, lower_pair
from bowerbird.compiler.pair.program import PairLowering, Source
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram
from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram
from bowerbird.kernels.pair_activation import Weights
from bowerbird.kernels.pair_twin import PairTwin

Values = npt.NDArray[np.float32]
LEAST_SHARE = 0.5
"""The least share of a candidate's operations that the engine must compute to be worth its while."""


Engine = PairProgram | PairTwin
MakeEngine = Callable[[Mapping[str, Any], Weights, Precision], Engine]
"""From a specification, weights and a precision to what runs it."""


@dataclass(frozen=True)
class Native:
    """Runs the pair stage on the native engine; ``make`` makes one."""

    make: MakeEngine = PairProgram
    name: str = "native"
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the program with its pair stage packed for this machine.

        Raises InputError where the engine would compute less than half of what a candidate costs.
        """
        lowering = lower_pair(program.pair)
        if lowering.native_share < LEAST_SHARE:
            raise InputError(
                f"The native engine has steps for {lowering.native_share:.0%} of what a candidate costs.",
                "Serve this model by another backend.",
            )
        engine = self.make(lowering.spec, lowering.weights, precision)
        return Prepared(Executable(program.request), Executable(program.item), PairRunner(lowering, engine))


class PairRunner:
    """PyTorch's part before, the engine, PyTorch's part after."""

    def __init__(self, lowering: PairLowering, engine: Engine) -> None:
        self._lowering = lowering
        self._engine = engine
        self._before = Executable(lowering.before)
        self._after = Executable(lowering.after)
        self._constants = {name: each.constant for name, each in lowering.request.items() if each.constant is not None}
        after = [name for name in self._after.inputs if name.startswith("native.")]
        self._answers = {name: _shape_of(name) for name in after}

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return the pair graph's outputs."""
        known = {**given, **self._before(given, rows)}
        request = {
            name: self._constants[name] if name in self._constants else _request_values(source, known[source.name])
            for name, source in self._lowering.request.items()
        }
        items = {name: _rows_of(known[source.name], rows) for name, source in self._lowering.items.items()}
        answers = self._engine.run(request, items, rows)
        after = {
            name: torch.from_numpy(answers[own]).reshape(rows, *shape) for name, (own, shape) in self._answers.items()
        }
        return self._after({**known, **after}, rows)


def _shape_of(name: str) -> tuple[str, tuple[int, ...]]:
    _, own, sizes = name.split(".")
    shape = tuple(int(each) for each in sizes.split("x")) if sizes else ()
    assert answer_name(own, shape) == name
    return own, shape


def _request_values(source: Source, value: Tensor) -> Values:
    flat: Values = value.to(torch.float32).numpy().reshape(-1)
    return flat.reshape(-1, source.width) if source.length else flat


def _rows_of(value: Tensor, rows: int) -> Values:
    values: Values = value.to(torch.float32).expand(rows, *value.shape[1:]).reshape(rows, -1).contiguous().numpy()
    return values
