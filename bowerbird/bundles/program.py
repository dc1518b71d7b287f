"""A dense graph read from a bundle, ready to score."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.serde.serialize import SerializedArtifact, deserialize
from torch._export.verifier import SpecViolationError
from torch.export import ExportedProgram

from bowerbird.bundles.arrays import AnyArray
from bowerbird.compiler.capture import GRAPH_LOCK
from bowerbird.errors import CorruptionError, InputError

_SYMBOLIC = re.compile(r"(?:[A-Za-z]+\(|\)|'\w+'|\w+=(?:True|False)|-?\d+|[\s,])*")
"""What a symbolic size may look like: nested calls over quoted names and integers."""
_FUNCTIONS = frozenset({"Symbol", "Integer", "Add", "Mul", "Pow", "Max", "Min", "Mod", "FloorDiv"})



class ScoringProgram:
    """The exported graph: ``program(features) -> logits`` by task, for any number of rows.

    ``for_request`` is the graph for candidates of one request whose sequences (``request_sequences``) are given
    once, where the module allows it. A program holds no state that a call changes, so that threads may share it.
    """

    def __init__(
        self,
        exported: ExportedProgram,
        inputs: list[str],
        outputs: list[str],
        request_sequences: list[str],
        for_request: ScoringProgram | None = None,
    ) -> None:
        self.request_sequences = request_sequences
        self.for_request = for_request
        self.exported = exported
        self.inputs = inputs
        self.outputs = outputs
        self._graph = exported.graph_module
        held = {**exported.state_dict, **exported.constants}
        specs = exported.graph_signature.input_specs
        self._held = [held[spec.target] for spec in specs if spec.target is not None]

    def __call__(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits float32 [rows] by task.

        ``features`` are all of the inputs, of one number of rows, or with the request's sequences of one row;
        raises InputError when one is absent.
        """
        if self.for_request is not None and all(len(features[name]) == 1 for name in self.request_sequences):
            return self.for_request(features)
        try:
            given = [features[name] for name in self.inputs]
        except KeyError as missing:
            raise InputError(f"The features lack the input {missing.args[0]!r}.", "Use the bundle's plan.") from missing
        with torch.inference_mode():
            results = self._graph(*self._held, *given)
        return dict(zip(self.outputs, results, strict=True))


def unpack_program(graph: bytes, arrays: Mapping[str, AnyArray]) -> ScoringProgram:
    """Return the program of a bundle's graph and weights; nothing is unpickled.

    Raises CorruptionError when the graph cannot be read by this version of PyTorch.
    """
    try:
        document = json.loads(graph)
        _check_symbols([document["graph"], document["request_graph"]])
        once = document["request_sequences"]
        for_request = None
        if document["request_graph"] is not None:
            exported = _exported(document["request_graph"], arrays)
            for_request = ScoringProgram(exported, document["inputs"], document["outputs"], once)
        exported = _exported(document["graph"], arrays)
        return ScoringProgram(exported, document["inputs"], document["outputs"], once, for_request)
    except (KeyError, TypeError, ValueError, AssertionError, RuntimeError, SpecViolationError) as error:
        raise CorruptionError(
            f"The dense graph cannot be read by PyTorch {torch.__version__}: {error}",
            "Publish the version again with the installed PyTorch.",
        ) from error


def _exported(graph: Any, arrays: Mapping[str, AnyArray]) -> ExportedProgram:
    parameters = _tensors(arrays, "parameter/").items()
    state = {name: nn.Parameter(value, requires_grad=False) for name, value in parameters}
    artifact = SerializedArtifact(
        json.dumps(graph).encode(),
        {**state, **_tensors(arrays, "buffer/")},  # type: ignore[arg-type]  # a dictionary is not unpickled
        _tensors(arrays, "constant/"),  # type: ignore[arg-type]
        b"",
    )
    with GRAPH_LOCK:
        return deserialize(artifact)


def _tensors(arrays: Mapping[str, AnyArray], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)
    }


def _check_symbols(value: Any) -> None:
    """Refuse symbolic sizes that are more than arithmetic: SymPy evaluates them as Python."""
    if isinstance(value, dict):
        text = value.get("expr_str")
        if text is not None and not _is_arithmetic(text):
            raise ValueError(f"the symbolic size {text!r} is not arithmetic")
        for item in value.values():
            _check_symbols(item)
    elif isinstance(value, list):
        for item in value:
            _check_symbols(item)


def _is_arithmetic(text: str) -> bool:
    called = set(re.findall(r"([A-Za-z]+)\(", text))
    return bool(_SYMBOLIC.fullmatch(text)) and called <= _FUNCTIONS
