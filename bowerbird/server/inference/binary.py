"""The binary tensor extension: JSON first, then the tensors' bytes one after another."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError
from bowerbird.server.inference import wire
from bowerbird.server.inference.tensors import Tensor, tensor_of_bytes, tensor_of_list
from bowerbird.server.web.http import Request

LENGTH_HEADER = b"inference-header-content-length"
_SIZE = "binary_data_size"
_DECODER = msgspec.json.Decoder(wire.InferRequest)


def read_request(request: Request) -> tuple[wire.InferRequest, list[Tensor]]:
    """Return the JSON part of a body and its tensors; InputError where lengths, shapes and values disagree."""
    length = _json_length(request.headers, len(request.body))
    blob = memoryview(request.body)[length:]
    request.body = request.body[:length]
    asked = request.decode(_DECODER)
    tensors, place = [], 0
    for each in asked.inputs:
        size = each.parameters.get(_SIZE)
        if size is None:
            tensors.append(tensor_of_list(each.name, each.datatype, each.shape, each.data or []))
            continue
        if not isinstance(size, int) or not 0 <= size <= len(blob) - place:
            raise InputError(
                f"Input {each.name!r} has the {_SIZE} {size!r}; {len(blob) - place:,} bytes are left.",
                "Send its bytes after the JSON.",
            )
        tensors.append(tensor_of_bytes(each.name, each.datatype, each.shape, blob[place : place + size]))
        place += size
    if place != len(blob):
        raise InputError(f"{len(blob) - place:,} bytes follow the last tensor.", f"Give every tensor's {_SIZE}.")
    return asked, tensors


def output_of(name: str, values: npt.NDArray[np.float32], as_bytes: bool) -> tuple[wire.InferOutput, bytes]:
    """Return an output's JSON part and its bytes; the latter are empty where the JSON holds the values."""
    if not as_bytes:
        return wire.InferOutput(name, [len(values)], "FP32", {}, values.tolist()), b""
    raw = values.astype("<f4").tobytes()
    return wire.InferOutput(name, [len(values)], "FP32", {_SIZE: len(raw)}), raw


def _json_length(headers: Mapping[bytes, bytes], size: int) -> int:
    text = headers.get(LENGTH_HEADER)
    if text is None:
        return size
    if not text.isdigit() or int(text) > size:
        raise InputError(
            f"{LENGTH_HEADER.decode()} is {text.decode('latin-1')!r}; the body has {size:,} bytes.",
            "It is the length of the body's JSON.",
        )
    return int(text)
