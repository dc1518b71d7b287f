"""The engines: each turns a module over tensors in order into steps, for a number of rows, on one thread.

A step takes and returns a list of the engine's own values, so that nothing is converted between a request's part and
the candidates'. What takes long to compile is kept in a folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import Dim, export

from bench.compiler.forms import Part
from bowerbird.compiler.backends.inductor import AUTOTUNED
from bowerbird.compiler.backends.openvino import settings
from bowerbird.compiler.precision import Precision
from bowerbird.errors import InputError

TUNED_ROWS = 500
"""For how many rows templates are chosen; every number of rows is served."""
Step = Callable[[list[Any]], list[Any]]


class Engine(Protocol):
    """A way to run a module."""

    name: str
    precision: Precision
    any_rows: bool
    """Whether a step that was made for some rows serves any number."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers that its modules are written in."""
        ...

    def give(self, value: Tensor) -> Any:
        """Return a tensor as the engine wants it."""
        ...

    def take(self, value: Any) -> Tensor:
        """Return the engine's value as a tensor."""
        ...

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        """Return a part ready to run on inputs of the example's shapes."""
        ...


@dataclass
class OfTorch:
    """What the engines of PyTorch have in common."""

    precision: Precision
    any_rows: bool = True

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def give(self, value: Tensor) -> Tensor:
        return value

    def take(self, value: Tensor) -> Tensor:
        return value.float()


@dataclass
class Eager(OfTorch):
    """PyTorch as it is."""

    name: str = "PyTorch"

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        return lambda values: part.module(*values)


@dataclass
class TorchCompile(OfTorch):
    """torch.compile with its defaults, for any number of rows."""

    name: str = "torch.compile"

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        compiled = torch.compile(part.module)
        marked = [value.clone() for value in example]
        for value, shared in zip(marked, part.shared, strict=True):
            if not shared:
                torch._dynamo.mark_dynamic(value, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled(*marked)
        return lambda values: compiled(*values)


@dataclass
class Aot(OfTorch):
    """AOTInductor with frozen weights and autotuned templates, for any number of rows."""

    name: str = "AOTInductor"

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        file = kept(folder / "model.pt2", lambda file: self._compile(part, example, file))
        package: Any = torch._inductor.aoti_load_package(str(file))

        def run(values: list[Tensor]) -> list[Tensor]:
            result = package(*values)
            return [result] if isinstance(result, Tensor) else list(result)

        return run

    def _compile(self, part: Part, example: list[Tensor], file: Path) -> None:
        rows = Dim("rows", min=1)
        dynamic = tuple({} if shared else {0: rows} for shared in part.shared)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = export(InOrder(part.module), tuple(example), dynamic_shapes=(dynamic,))
            torch._inductor.aoti_compile_and_package(exported, package_path=str(file), inductor_configs=dict(AUTOTUNED))


def kept(file: Path, make: Callable[[Path], None]) -> Path:
    """Return a file that is made where it is not there; a run that is cut leaves none by its name."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"partial{file.suffix}")
        make(partial)
        partial.rename(file)
    return file


class InOrder(nn.Module):
    """A module with any number of inputs, for exporters that want to be told of all alike."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        answers: tuple[Tensor, ...] = self.module(*values)
        return answers


@dataclass
class OfArrays:
    """What the engines that take arrays have in common."""

    precision: Precision
    any_rows: bool = True

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def give(self, value: Tensor) -> Any:
        return value.numpy()

    def take(self, value: Any) -> Tensor:
        return torch.from_numpy(value)


@dataclass
class OnnxRuntime(OfArrays):
    """ONNX Runtime, in float32 or with weights and activations quantised as it runs."""

    name: str = "ONNX Runtime"

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        import onnxruntime

        file = kept(folder / "model.onnx", lambda file: self._export(part, example, file))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        used = {each.name for each in session.get_inputs()}
        names = [(place, f"in{place}") for place in range(len(part.inputs)) if f"in{place}" in used]
        return lambda values: session.run(None, {name: values[place] for place, name in names})

    def _export(self, part: Part, example: list[Tensor], file: Path) -> None:
        names = [f"in{place}" for place in range(len(part.inputs))]
        outputs = [f"out{place}" for place in range(len(part.outputs))]
        axes = {name: {0: "rows"} for name, shared in zip(names, part.shared, strict=True) if not shared}
        whole = file.with_name("whole.onnx")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    part.module, tuple(example), str(whole), input_names=names, output_names=outputs,
                    dynamic_axes=axes, dynamo=False,
                )  # fmt: skip
            except torch.onnx.errors.OnnxExporterError as error:
                why = str(error).splitlines()[0].partition(", scope:")[0]
                raise InputError(f"ONNX's exporter refuses it: {why}") from error
        if self.precision == "int8":
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(str(whole), str(file))
            whole.unlink()
        else:
            whole.rename(file)


@dataclass
class OpenVinoEngine(OfArrays):
    """OpenVINO from the traced module, compiled for these very shapes."""

    name: str = "OpenVINO"
    any_rows: bool = False

    def step(self, part: Part, example: list[Tensor], folder: Path) -> Step:
        import openvino

        file = folder / "model.xml"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                model = openvino.convert_model(part.module, example_input=tuple(example))
            openvino.save_model(model, file, compress_to_fp16=False)
        model = openvino.Core().read_model(file)
        model.reshape({port: list(value.shape) for port, value in zip(model.inputs, example, strict=True)})
        request = openvino.compile_model(model, "CPU", settings(self.precision)).create_infer_request()
        count = len(part.outputs)

        def run(values: list[Any]) -> list[Any]:
            answers = request.infer(values, share_inputs=True, share_outputs=True)
            return [answers[place] for place in range(count)]

        return run


ENGINES: list[Engine] = [
    Eager("fp32"),
    TorchCompile("fp32"), TorchCompile("bf16"), Aot("fp32"), Aot("bf16"), OnnxRuntime("fp32"), OnnxRuntime("int8"),
    OpenVinoEngine("fp32"), OpenVinoEngine("bf16"),
]  # fmt: skip


def one_thread() -> None:
    """Keep PyTorch and its compiled code on one thread, encoders in exportable operators, all compiled modules."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    torch._dynamo.config.recompile_limit = 64
