"""The engines: each takes a module tiled, or the graphs that the compiler cut, and returns what is then timed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.compiler_models import Case
from bowerbird.compiler.backends.contract import Backend, Prepared
from bowerbird.compiler.backends.inductor import Inductor
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.capture import capture
from bowerbird.compiler.lift import lift
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram, staged
from bowerbird.compiler.staging import Compilation

Features = dict[str, Tensor]
Run = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Peer:
    """An engine: its name, the precision of its products, and how a run is prepared."""

    name: str
    precision: Precision
    prepare: Callable[[Case, Compilation, Features, Features, Path], Run]


def _eager(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:
    def run() -> dict[str, Tensor]:
        with torch.inference_mode():
            return case.module(tiled)

    return run


def _compiled(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:
    torch._dynamo.reset()
    compiled = torch.compile(case.module, dynamic=False)

    def run() -> dict[str, Tensor]:
        with torch.inference_mode():
            return compiled(tiled)

    return run


def _tiled_inductor(precision: Precision) -> Callable[..., Run]:
    """Return AOTInductor on the graph as written: everything per candidate."""

    def prepare(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:

        stages = dict.fromkeys(case.shape.stages, "pair")
        program = staged(lift(capture(case.module, tiled), stages).graph)
        prepared = Inductor().prepare(program, precision, folder)
        return lambda: prepared(tiled, len(tiled["item"]))

    return prepare


def _staged(backend: Backend, precision: Precision) -> Callable[..., Run]:
    """Return a backend on the staged graphs; what is kept of items is there, as it is in a server."""

    def prepare(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:
        program: StagedProgram = compilation.program
        prepared: Prepared = backend.prepare(program, precision, folder)
        rows = len(features["item"])
        kept = {name: value.clone() for name, value in prepared.item(features, rows).items()}

        def run() -> dict[str, Tensor]:
            request = prepared.request(features, 1)
            return prepared.pair({**features, **request, **kept}, rows)

        return run

    return prepare


class _Tuple(nn.Module):
    """A module over tensors in order, for exporters that know no dicts."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(dict(zip(self.names, values, strict=True))).values())


def _onnx(quantised: bool) -> Callable[..., Run]:
    """Return ONNX Runtime on tiled inputs."""

    def prepare(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:
        import onnxruntime

        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "model.onnx"
        names, outputs = list(tiled), [f"out_{name}" for name in case.module(tiled)]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Tuple(case.module, names), tuple(tiled.values()), str(file), input_names=names, output_names=outputs,
                dynamic_axes={name: {0: "rows"} for name in names}, dynamo=False,
            )  # fmt: skip
        if quantised:
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(str(file), str(folder / "int8.onnx"))
            file = folder / "int8.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        used = {each.name for each in session.get_inputs()}
        feed = {name: value.numpy() for name, value in tiled.items() if name in used}

        def run() -> dict[str, Tensor]:
            answers = session.run(None, feed)
            return {
                name.removeprefix("out_"): torch.from_numpy(value) for name, value in zip(outputs, answers, strict=True)
            }

        return run

    return prepare


def _openvino(hint: str) -> Callable[..., Run]:
    """Return OpenVINO on tiled inputs."""

    def prepare(case: Case, compilation: Compilation, features: Features, tiled: Features, folder: Path) -> Run:
        import openvino

        names = list(tiled)
        outputs = list(case.module(tiled))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(_Tuple(case.module, names), example_input=tuple(tiled.values()))
        config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        request = openvino.compile_model(model, "CPU", config).create_infer_request()
        feed = [value.numpy() for value in tiled.values()][: len(model.inputs)]

        def run() -> dict[str, Tensor]:
            answers = request.infer(feed)
            return {name: torch.from_numpy(answers[place]) for place, name in enumerate(outputs)}

        return run

    return prepare


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


PEERS = [
    Peer("eager tiled", "fp32", _eager),
    Peer("torch.compile tiled", "fp32", _compiled),
    Peer("AOTInductor fp32 tiled", "fp32", _tiled_inductor("fp32")),
    Peer("AOTInductor bf16 tiled", "bf16", _tiled_inductor("bf16")),
    *([Peer("ONNX Runtime fp32 tiled", "fp32", _onnx(False)), Peer("ONNX Runtime int8 tiled", "int8", _onnx(True))]
      if _has("onnxruntime") else []),
    *([Peer("OpenVINO fp32 tiled", "fp32", _openvino("f32")), Peer("OpenVINO bf16 tiled", "bf16", _openvino("bf16"))]
      if _has("openvino") else []),
    Peer("staged, PyTorch fp32", "fp32", _staged(Interpreter(), "fp32")),
    Peer("staged, PyTorch bf16", "bf16", _staged(Interpreter(), "bf16")),
    Peer("staged, AOTInductor fp32", "fp32", _staged(Inductor(), "fp32")),
    Peer("staged, AOTInductor bf16", "bf16", _staged(Inductor(), "bf16")),
    *([Peer(f"staged, native {each}", each, _staged(Native(), each)) for each in Native().precisions]
      if _has("bowerbird.kernels.pair") else []),
]  # fmt: skip
