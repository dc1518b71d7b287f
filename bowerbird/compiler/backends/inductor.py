"""AOTInductor: the graphs as C++ that this host compiles and tunes, kept with the bundle's hash and instruction set."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, export

from bowerbird.compiler.backends.contract import Prepared, Runner
from bowerbird.compiler.backends.interpreter import lowered
from bowerbird.compiler.capture import GRAPH_LOCK
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.operations import Input, dtype_named
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram

_EXAMPLE_ROWS = 128
_CONFIG = {
    "freezing": True,
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "always_keep_tensor_constants": True,
}


@dataclass(frozen=True)
class Inductor:
    """Compiles each stage for any number of rows; minutes once, then a file that loads at once."""

    config: tuple[tuple[str, Any], ...] = tuple(_CONFIG.items())
    name: str = "inductor"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")

    def prepare(self, program: StagedProgram, precision: Precision, cache: Path | None = None) -> Prepared:
        """Return the compiled program; raises RuntimeError where no C++ compiler is found."""
        return Prepared(
            request=self._compiled(program.request, f"request.{precision}", cache),
            item=Executable(program.item),
            pair=self._compiled(lowered(program.pair, precision, self.name), f"pair.{precision}", cache),
        )

    def _compiled(self, graph: RowGraph, name: str, cache: Path | None) -> Runner:
        if not any(node.flops for node in graph.nodes()) or any(node.operation.couples for node in graph.nodes()):
            return Executable(graph)
        module = GraphModule(graph)
        file = None if cache is None else cache / f"{name}.{instruction_set()}.pt2"
        if file is not None and file.is_file():
            return _Loaded(torch._inductor.aoti_load_package(str(file)), module)
        example = module.example(_EXAMPLE_ROWS)
        rows = Dim("rows", min=1)
        dynamic = [{} if node.shared else {0: rows} for node in module.inputs]
        with GRAPH_LOCK, warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = export(module, tuple(example), dynamic_shapes=(tuple(dynamic),))
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            path = torch._inductor.aoti_compile_and_package(
                exported, package_path=None if file is None else str(file), inductor_configs=dict(self.config)
            )
        return _Loaded(torch._inductor.aoti_load_package(path), module)


class GraphModule(nn.Module):
    """A row graph as a module over its inputs in order; it returns its outputs in order, for an exporter to read."""

    def __init__(self, graph: RowGraph) -> None:
        super().__init__()
        self.inputs = [node for node in graph.nodes() if isinstance(node.operation, Input)]
        self.outputs = list(graph.outputs)
        self.executable = Executable(graph)
        for number, value in self.executable.constants.items():
            self.register_buffer(f"constant_{number}", value)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of inputs [rows or 1, *shape]."""
        names = [node.operation.name for node in self.inputs if isinstance(node.operation, Input)]
        constants = {number: getattr(self, f"constant_{number}") for number in self.executable.constants}
        values = dict(zip(names, given, strict=True))
        rows = next((value.shape[0] for value, node in zip(given, self.inputs, strict=True) if not node.shared), 1)
        result = self.executable.evaluate(values, rows, constants)
        return tuple(result[name] for name in self.outputs)

    def example(self, rows: int) -> list[Tensor]:
        """Return random inputs; those that all rows share have one."""
        generator = torch.Generator().manual_seed(0)
        return [
            torch.randn(1 if node.shared else rows, *node.shape, generator=generator).to(dtype_named(node.dtype))
            for node in self.inputs
        ]


class _Loaded:
    """A compiled package as a runner."""

    def __init__(self, package: Any, module: GraphModule) -> None:
        self._package = package
        self._inputs = [
            (node.operation.name, node.shared) for node in module.inputs if isinstance(node.operation, Input)
        ]
        self._outputs = module.outputs

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        values = [
            given[name] if shared else given[name].expand(rows, *given[name].shape[1:]).contiguous()
            for name, shared in self._inputs
        ]
        result = self._package(*values)
        answers = [result] if isinstance(result, Tensor) else list(result)
        return dict(zip(self._outputs, answers, strict=True))


def instruction_set() -> str:
    """Return a short name of this processor's instruction set and of PyTorch's version, for names of files."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text().splitlines() if flags.is_file() else []
    known = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(f"{known}{torch.__version__}".encode()).hexdigest()[:12]
    return f"{capability.lower()}-{digest}"
