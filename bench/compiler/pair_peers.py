"""Other engines on the reference ranker's pair stage: each a function of no arguments that returns probabilities.

They are given their inputs dense and in the type that they want; gathering an item's stored rows is ours alone.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.compiler.pair_model import Inputs, PairStage

Engine = Callable[[], np.ndarray]


def _tensors(inputs: Inputs, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    names = ("query", "query_part", "partial", "user", "history", "history_part")
    return tuple(torch.from_numpy(inputs.dense[name]).to(dtype) for name in names)


def eager(stage: PairStage, inputs: Inputs, dtype: torch.dtype) -> Engine:
    """PyTorch as written."""
    module, given = copy.deepcopy(stage).to(dtype), _tensors(inputs, dtype)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(*given).float().numpy()

    return run


class _Packed(PairStage):
    """The same graph whose layers are oneDNN's, packed beforehand for a number of rows, ReLU and terms fused in."""

    def pack(self, candidates: int, events: int) -> None:
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.packed = {
            name: (reorder(getattr(self, name).weight.detach(), rows), getattr(self, name).bias)
            for name, rows in (
                ("product", candidates * events), ("second", candidates * events), ("first", candidates),
                ("hidden", candidates), ("last", candidates),
            )
        }  # fmt: skip

    def layer(self, name: str, x: Tensor, activation: str) -> Tensor:
        weight, bias = self.packed[name]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")

    def forward(
        self, query: Tensor, query_part: Tensor, partial: Tensor, user: Tensor, history: Tensor, history_part: Tensor
    ) -> Tensor:
        met = (query[:, None, :] * history).reshape(-1, query.shape[1])
        first = self.layer("product", met, "none").view(len(query), len(history), -1)
        first = first.add_(query_part[:, None, :]).add_(history_part).relu_()
        second = self.layer("second", first.view(-1, first.shape[2]), "relu")
        scores = self.score(second).view(len(query), len(history))
        value = self.layer("first", scores @ history, "none").add_(partial).add_(user).relu_()
        value = self.layer("last", self.layer("hidden", value, "relu"), "relu")
        return torch.sigmoid(self.head(value))


def onednn(stage: PairStage, inputs: Inputs, dtype: torch.dtype) -> Engine:
    """oneDNN through PyTorch's prepacked linear layers, everything else in place."""
    module = _Packed()
    module.load_state_dict(stage.state_dict())
    module = module.to(dtype)
    given = _tensors(inputs, dtype)
    module.pack(len(given[0]), len(given[4]))

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(*given).float().numpy()

    return run


def _onnx(stage: PairStage, inputs: Inputs, folder: Path) -> Path:
    file = folder / "stage.onnx"
    names = ["query", "query_part", "partial", "user", "history", "history_part"]
    torch.onnx.export(stage, _tensors(inputs), str(file), input_names=names, output_names=["click"], dynamo=False)
    return file


def onnxruntime(stage: PairStage, inputs: Inputs, quantised: bool) -> Engine:
    """ONNX Runtime, float32 or with weights and activations quantised as it runs."""
    import onnxruntime as runtime
    from onnxruntime.quantization import quantize_dynamic

    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = _onnx(stage, inputs, Path(folder))
        if quantised:
            quantize_dynamic(str(file), str(file.with_suffix(".int8.onnx")))
            file = file.with_suffix(".int8.onnx")
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs.dense)[0]


def openvino(stage: PairStage, inputs: Inputs, precision: str) -> Engine:
    """OpenVINO from the traced module, for these very shapes."""
    import openvino as ov

    model: Any = ov.convert_model(stage, example_input=_tensors(inputs))
    model.reshape({port: list(each.shape) for port, each in zip(model.inputs, _tensors(inputs), strict=True)})
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    given = [each.numpy() for each in _tensors(inputs)]

    def run() -> np.ndarray:
        return request.infer(given, share_inputs=True, share_outputs=True)[0]

    return run
