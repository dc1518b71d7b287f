"""Pair programs, the part of a model that is computed per candidate, on native kernels; ``pair_twin`` is their twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.kernels.pair_activation import Values, Weights
from bowerbird.kernels.pair_given import Given, Items
from bowerbird.kernels.pair_lower import Lowering
from bowerbird.kernels.pair_precision import Precision, product_precision
from bowerbird.kernels.pair_rows import StoredRows
from bowerbird.kernels.pair_spec import PairSpec

__all__ = ["PairProgram", "StoredRows"]

MOST_THREADS = 256
"""The most threads that one program may ask for."""
EMULATED = "amx_emulated"
"""The instruction set that software imitates, so that its kernels can be tested anywhere; never chosen by itself."""


class PairProgram:
    """A pair program with its weights packed for this machine.

    ``spec`` is the JSON-able program of ``pair_spec``, ``weights`` float32 arrays by name. Products are computed in
    ``precision``: float32, bfloat16 with float32 sums, or int8 with a scale per output and per candidate. A candidate's
    answer depends neither on the other candidates nor on ``threads``, of which as many work on a request as have
    ``least_rows`` candidates each. BOWERBIRD_ISA chooses an instruction set below the machine's best: generic, avx2,
    avx512, avx512_bf16, amx; or amx_emulated, which is for tests. An InputError says what of the program does not fit.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        weights: Weights,
        precision: Precision = "fp32",
        threads: int = 1,
        least_rows: int = 1,
    ) -> None:
        product_precision(precision, 1, 1)
        if not 1 <= threads <= MOST_THREADS:
            raise InputError(f"A pair program on {threads} threads cannot be.", f"Use 1 to {MOST_THREADS}.")
        self.spec = PairSpec.read(spec, weights)
        lowered = Lowering(self.spec, weights, precision)
        self._inputs = [(name, each.stage == "request") for name, each in self.spec.inputs.items()]
        self._outputs = [(name, self.spec.widths[name]) for name in self.spec.outputs]
        self.isa()
        self._program = _native.PairProgram(lowered.values, lowered.layers, lowered.steps, lowered.outputs)
        self._threads, self._least_rows = threads, least_rows

    @staticmethod
    def isa() -> str:
        """Return the instruction set that programs made now will run on."""
        try:
            return _native.pair_isa()
        except ValueError as error:
            raise InputError(str(error)) from error

    @staticmethod
    def unused_amx() -> str:
        """Return why the processor's AMX is not used though nothing else was asked for, or an empty text."""
        return _native.pair_unused_amx()

    @staticmethod
    def peak(precision: Precision) -> float:
        """Measure the multiply-adds a second that one core does on registers alone (about 20 ms).

        Raises InputError where instructions are emulated.
        """
        product_precision(precision, 1, 1)
        PairProgram.isa()
        try:
            return _native.pair_peak(precision)
        except ValueError as error:
            raise InputError(str(error), "Unset BOWERBIRD_ISA.") from error

    @property
    def scratch_bytes(self) -> int:
        """The memory that each thread keeps for this program's tiles."""
        return self._program.scratch_bytes

    def threads(self, count: int) -> int:
        """Return how many threads work on so many candidates."""
        return max(1, min(self._threads, count // self._least_rows))

    def run(self, request: Mapping[str, Values], items: Mapping[str, Items], count: int) -> dict[str, Values]:
        """Return each output as float32 [count, width] for ``count`` candidates of one request.

        ``request`` holds float32 [width] or [length, width], ``items`` float32 [count, width] or stored rows with an
        int64 row for each candidate. InputError names an input that is missing or does not fit. Any number of threads
        may call this at once; the GIL is released.
        """
        try:
            inputs = [_native_input((request if shared else items)[name]) for name, shared in self._inputs]
            answers = {name: np.empty((count, width), np.float32) for name, width in self._outputs}
            self._program.run(inputs, count, self.threads(count), list(answers.values()))
        except (KeyError, TypeError, ValueError) as error:
            Given.check(self.spec, request, items, count)
            raise InputError(f"A pair program does not take its inputs: {error}.", "See PairProgram.run.") from error
        return answers


def _native_input(given: Items) -> Any:
    if isinstance(given, tuple):
        stored, places = given
        return stored.values, stored.format, stored.scales, places
    return given
