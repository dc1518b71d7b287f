"""AOTInductor: the graphs as C++ that this host compiles and tunes, kept by content and instruction set."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bowerbird.compiler.backends.contract import Prepared, Runner
from bowerbird.compiler.backends.graph_module import (
    EXAMPLE_ROWS,
    GraphModule,
    StageRunner,
    content_digest,
    runs_as_it_is,
)
from bowerbird.compiler.backends.interpreter import lowered
from bowerbird.compiler.capture import GRAPH_LOCK
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram

AUTOTUNED = {
    "freezing": True,
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "always_keep_tensor_constants": True,
}


@dataclass(frozen=True)
class Inductor:
    """Compiles each stage for any number of rows; minutes once, then a file that loads at once.

    A file's name says the content of its graph, the precision, the options, the instruction set and PyTorch's
    version: a server that finds it compiles nothing, and what was made of other weights is never taken for it.
    """

    config: tuple[tuple[str, Any], ...] = tuple(AUTOTUNED.items())
    rows: int = EXAMPLE_ROWS
    """For how many candidates templates are chosen."""
    name: str = "inductor"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the compiled program; raises RuntimeError where no C++ compiler is found."""
        return Prepared(
            request=self._compiled(program.request, "request", "fp32", cache),
            item=Executable(program.item),
            pair=self._compiled(program.pair, "pair", precision, cache),
        )

    def _compiled(self, graph: RowGraph, stage: str, precision: Precision, cache: Path | None) -> Runner:
        narrow = lowered(graph, precision, self.name)
        if runs_as_it_is(graph):
            return Executable(narrow)
        module = GraphModule(narrow)
        if cache is None:
            return _loaded(self._compile(module, None), module)
        digest = content_digest(graph, precision, repr(sorted(self.config)), str(self.rows), instruction_set())
        file = cache / f"{stage}.{precision}.{digest}.pt2"
        if not file.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f"{file.stem}.partial.pt2")
            self._compile(module, partial)
            partial.rename(file)
        return _loaded(str(file), module)

    def _compile(self, module: GraphModule, file: Path | None) -> str:
        exported = module.exported(self.rows)
        with GRAPH_LOCK, warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            path: str = torch._inductor.aoti_compile_and_package(
                exported, package_path=None if file is None else str(file), inductor_configs=dict(self.config)
            )
        return path


def _loaded(path: str, module: GraphModule) -> StageRunner:
    package: Any = torch._inductor.aoti_load_package(path)

    def call(values: Sequence[Tensor]) -> Sequence[Tensor]:
        result = package(*values)
        return [result] if isinstance(result, Tensor) else list(result)

    return StageRunner(module, call)


def instruction_set() -> str:
    """Return a short name of this processor's instruction set and of PyTorch's version, for names of files."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text().splitlines() if flags.is_file() else []
    known = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(f"{known}{torch.__version__}".encode()).hexdigest()[:12]
    return f"{capability.lower()}-{digest}"
