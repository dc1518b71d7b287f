"""Tensor programs, what a model computes once per request, on native kernels; ``tensor_twin`` is their twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bowerbird import _native
from bowerbird.errors import InputError
from bowerbird.kernels.flat_values import FlatLayout, FlatValues
from bowerbird.kernels.pair import PairProgram
from bowerbird.kernels.pair_precision import Precision, product_precision
from bowerbird.kernels.tensor_layout import TensorLayout
from bowerbird.kernels.tensor_spec import TensorSpec, Values

__all__ = ["Array", "TensorProgram", "stored_weights"]

Array = npt.NDArray[np.float32] | npt.NDArray[np.bool_]


class TensorProgram:
    """A tensor program packed for this machine; all its numbers are float32.

    Weights of linear steps are kept as bfloat16 unless ``precision`` is fp32: a request's products are as fast as its
    weights come, and sums of bfloat16 weights lose less than int8 would gain. BOWERBIRD_ISA chooses the instruction
    set, as for pair programs. Raises InputError for a program whose steps do not fit.
    """

    def __init__(self, spec: TensorSpec, precision: Precision = "fp32") -> None:
        spec.check()
        PairProgram.isa()
        self.spec = spec
        layout = TensorLayout(spec, stored_weights(precision))
        self._answers = layout.answers
        self._places: tuple[FlatLayout | None, npt.NDArray[np.int64]] = (None, np.empty((0, 2), np.int64))
        self._program = _native.TensorProgram(layout.values, layout.steps, layout.floats, layout.answers)

    @property
    def scratch_bytes(self) -> int:
        """The memory that each thread keeps for this program's values."""
        return self._program.scratch_bytes

    def run(self, given: Sequence[Array], count: int) -> Values:
        """Return the outputs of ``count`` requests, float32 [count, numbers], one after another in their order.

        ``given`` are the inputs in their order, float32 or bool [count, *shape], contiguous. Raises InputError for one
        of another type or size. Any number of threads may call this at once; the GIL is released.
        """
        answers = np.empty((count, self._answers), np.float32)
        try:
            self._program.run(list(given), answers)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"A tensor program is given {[(each.dtype.name, each.shape) for each in given]}: {error}.",
                f"It takes {dict(self.spec.inputs)}, contiguous, for {count} requests.",
            ) from error
        return answers

    def run_flat(self, given: FlatValues, count: int = 1) -> Values:
        """Return what ``run`` does of inputs that stand in a few arrays, maybe with others.

        Their rows are those of all ``count`` requests.
        """
        layout, places = self._places
        try:
            if layout is not given.layout:
                places = given.layout.starts(self.spec.inputs)
                self._places = (given.layout, places)
            answers = np.empty((count, self._answers), np.float32)
            self._program.run_parts(given.parts, places, given.rows, answers)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"A tensor program is given {[(each.dtype.name, each.shape) for each in given.parts]}: {error}.",
                f"It takes {dict(self.spec.inputs)}, contiguous, for {count} requests.",
            ) from error
        return answers


def stored_weights(precision: Precision) -> str:
    """Return what weights are kept as where a way computes in a precision."""
    product_precision(precision, 1, 1)
    return "fp32" if precision == "fp32" else "bf16"
