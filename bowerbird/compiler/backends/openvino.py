"""OpenVINO: what is left per candidate on its CPU kernels, which need no compiler where a model is served."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Prepared, Runner
from bowerbird.compiler.backends.graph_module import GraphModule, StageRunner, content_digest, runs_as_it_is
from bowerbird.compiler.backends.native_request import RequestRunner
from bowerbird.compiler.backends.native_rows import TOGETHER, own_stacks, rows_runner
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram
from bowerbird.errors import InputError, MissingExtraError

_HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO chooses bfloat16 by itself where a processor multiplies in it; so the precision is always said."""


@dataclass(frozen=True)
class OpenVino:
    """Runs the candidates' stage on OpenVINO, for any number of rows; in bf16 it keeps values in bfloat16, too.

    A request's stage is the native engine's: a single row costs OpenVINO more in calls than in arithmetic.
    """

    threads: int = 1
    streams: int = 1
    """How many calls it computes at once; further ones wait."""
    name: str = "openvino"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the program; what was converted is kept in ``cache`` by content, so that it is converted once.

        Raises MissingExtraError without OpenVINO, InputError for int8, for bfloat16 on a processor that does not
        multiply in it, and for what OpenVINO refuses.
        """
        openvino = import_openvino()
        if precision not in self.precisions:
            raise InputError(f"The backend {self.name!r} does not compute in {precision}.", "Choose fp32 or bf16.")
        if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("This processor does not multiply in bfloat16.", "Choose fp32.")
        try:
            pair = self._compiled(openvino, program.pair, precision, cache)
        except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
            raise InputError(f"OpenVINO refuses this model: {error}", "Serve this model by another backend.") from error
        item, least = rows_runner(program.item)
        return Prepared(
            RequestRunner(program.request, "fp32"), item, pair, takes_arrays=True, least_items=least,
            items_together=TOGETHER, item_stacks=own_stacks(item.stacked),
        )  # fmt: skip

    def _compiled(self, openvino: ModuleType, graph: RowGraph, precision: Precision, cache: Path | None) -> Runner:
        if runs_as_it_is(graph):
            return Executable(graph)
        module = GraphModule(graph)
        model = self._converted(openvino, graph, module, cache)
        compiled = openvino.compile_model(model, "CPU", settings(precision, self.threads, self.streams))
        return StageRunner(module, _Requests(compiled, len(module.outputs)))

    def _converted(self, openvino: ModuleType, graph: RowGraph, module: GraphModule, cache: Path | None) -> Any:
        """Return OpenVINO's model of a graph, from ``cache`` where it is there."""
        if cache is None:
            return _convert(openvino, module)
        digest = content_digest(graph, openvino.__version__, torch.__version__)
        file = cache / f"pair.{digest}.xml"
        if not file.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f"{file.stem}.partial.xml")
            openvino.save_model(_convert(openvino, module), partial, compress_to_fp16=False)
            partial.with_suffix(".bin").rename(file.with_suffix(".bin"))
            partial.rename(file)
        return openvino.Core().read_model(file)


class _Requests:
    """A compiled model with an inference request for each thread, since one serves one call at a time."""

    def __init__(self, compiled: Any, outputs: int) -> None:
        self._compiled = compiled
        self._outputs = outputs
        self._local = threading.local()

    def __call__(self, values: Sequence[Tensor]) -> list[Tensor]:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        given = [value.numpy() for value in values]
        answers = self._local.request.infer(given, share_inputs=True)
        return [torch.from_numpy(np.asarray(answers[place])) for place in range(self._outputs)]


def settings(precision: Precision, threads: int = 1, streams: int = 1) -> dict[str, Any]:
    """Return OpenVINO's settings of a compiled model."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * streams,
        "NUM_STREAMS": streams,
    }


def _convert(openvino: ModuleType, module: GraphModule) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return openvino.convert_model(module.exported())


def import_openvino() -> ModuleType:
    """Return the openvino module; raises MissingExtraError when it is not installed."""
    try:
        import openvino
        import openvino.frontend
    except ImportError as error:
        raise MissingExtraError(
            "openvino is not installed.", "Install it with: pip install 'bowerbird[openvino]'."
        ) from error
    module: ModuleType = openvino
    return module
