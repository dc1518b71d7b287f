"""The protocol's JSON, as msgspec types. Fields that the specification does not name are ignored."""

from __future__ import annotations

from typing import Any

import msgspec


class InferInput(msgspec.Struct):
    """An input tensor: ``data`` is a list, flat or nested, or the body's binary part holds its bytes."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferOutputWish(msgspec.Struct):
    """An output to be sent; ``parameters.binary_data`` sends it as bytes."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """Tensors for a scene; ``parameters.model`` names one of several live models."""

    inputs: list[InferInput]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[InferOutputWish] = []


class InferOutput(msgspec.Struct, omit_defaults=True):
    """An output tensor: FP32 by candidate."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] = {}
    data: list[float] | None = None


class InferAnswer(msgspec.Struct, omit_defaults=True):
    """Scores; ``parameters`` are slate_id (to be echoed in exposures), lsn, time and the model that answered."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: str = ""
    parameters: dict[str, str | int] = {}


class TensorMetadata(msgspec.Struct):
    """A tensor's name, datatype and shape; -1 is the number of candidates."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """What a scene takes and gives. ``user`` and ``candidates`` are required, other inputs may be left out."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
    """Who answers, and which extensions of the protocol are understood."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(msgspec.Struct):
    """Whether the server is alive."""

    live: bool


class ReadyAnswer(msgspec.Struct):
    """Whether the server, or a model, can answer."""

    ready: bool


class ErrorAnswer(msgspec.Struct):
    """An error in the protocol's form."""

    error: str
