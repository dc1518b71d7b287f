"""Inference messages to and from what the service asks and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bowerbird.errors import InputError
from bowerbird.server.inference.grpc_messages import MESSAGES
from bowerbird.server.inference.service import Inference, Inferred
from bowerbird.server.inference.tensors import Tensor, tensor_of_bytes, tensor_of_list

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field that holds a datatype's values; FP16 comes as raw bytes alone."""


def inference_of(request: Any) -> Inference:
    """Return what a ModelInferRequest asks; InputError where its tensors disagree with themselves."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"The request has {len(request.inputs)} inputs and {len(raw)} raw contents.",
            "Send the contents of all inputs raw, or of none.",
        )
    return Inference(
        request.model_name,
        request.model_version,
        _raw_tensors(request.inputs, raw) if raw else [_tensor(each) for each in request.inputs],
        [each.name for each in request.outputs],
        {name: _parameter(value) for name, value in request.parameters.items()},
    )


def response_of(found: Inferred, request: Any) -> Any:
    """Return the ModelInferResponse: raw where the request's inputs were raw, as its client seems to like that."""
    response = MESSAGES["ModelInferResponse"](model_name=found.scene, model_version=found.version, id=request.id)
    for name, value in found.parameters.items():
        if isinstance(value, int):
            response.parameters[name].int64_param = value
        else:
            response.parameters[name].string_param = value
    for name, values in found.outputs.items():
        output = response.outputs.add(name=name, datatype="FP32", shape=[len(values)])
        if request.raw_input_contents:
            response.raw_output_contents.append(values.astype("<f4").tobytes())
        else:
            output.contents.fp32_contents.extend(values.tolist())
    return response


def _raw_tensors(inputs: Sequence[Any], raw: Sequence[bytes]) -> list[Tensor]:
    return [
        tensor_of_bytes(each.name, each.datatype, each.shape, content)
        for each, content in zip(inputs, raw, strict=True)
    ]


def _tensor(sent: Any) -> Tensor:
    field = _CONTENTS.get(sent.datatype)
    values = [] if field is None else list(getattr(sent.contents, field))
    return tensor_of_list(sent.name, sent.datatype, sent.shape, values)


def _parameter(value: Any) -> Any:
    choice = value.WhichOneof("parameter_choice")
    return None if choice is None else getattr(value, choice)
