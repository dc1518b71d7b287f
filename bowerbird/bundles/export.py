"""A dense module as a graph in JSON and arrays: ``torch.export`` without its pickles."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch._export.serde.serialize import serialize
from torch.export import Dim, ExportedProgram, export

from bowerbird.bundles.arrays import AnyArray
from bowerbird.bundles.program import GRAPH_LOCK
from bowerbird.errors import InputError
from bowerbird.models.ranker import Ranker

_EXAMPLE_ROWS = 4
_PRIVATE_METADATA = ("stack_trace",)
"""Metadata that would carry the paths of the machine that exported."""


def export_program(model: Ranker) -> ExportedProgram:
    """Return the module's graph for any number of rows, in evaluation mode.

    Raises InputError when the module cannot be captured (control flow that depends on data, say).
    """
    example = model.inputs.example(_EXAMPLE_ROWS, torch.Generator().manual_seed(0))
    rows = Dim("rows", min=1)
    training = model.training
    model.eval()
    try:
        with GRAPH_LOCK:
            return export(model, (example,), dynamic_shapes=({name: {0: rows} for name in example},))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{type(model).__name__} cannot be exported: {error}",
            "Write its forward without control flow or shapes that depend on data.",
        ) from error
    finally:
        model.train(training)


def pack_program(program: ExportedProgram, model: Ranker) -> tuple[bytes, dict[str, AnyArray]]:
    """Return the graph as JSON (``inputs``, ``outputs``, ``graph``) and its weights as arrays."""
    with GRAPH_LOCK:
        data = serialize(
            program,
            serialize_state_dict=False,
            serialize_constants=False,
            serialize_example_inputs=False,
        ).exported_program
    graph = json.loads(data)
    graph["guards_code"] = []
    _strip(graph)
    document = {
        "inputs": list(model.inputs.example(1)),
        "outputs": [task.name for task in model.tasks],
        "graph": graph,
    }
    parameters = set(program.graph_signature.parameters)
    arrays = {
        f"{'parameter' if name in parameters else 'buffer'}/{name}": _array(value)
        for name, value in program.state_dict.items()
    }
    arrays |= {f"constant/{name}": _array(value) for name, value in program.constants.items()}
    return json.dumps(document, separators=(",", ":")).encode(), arrays


def _strip(value: Any) -> None:
    if isinstance(value, dict):
        for name in _PRIVATE_METADATA:
            value.pop(name, None)
        for item in value.values():
            _strip(item)
    elif isinstance(value, list):
        for item in value:
            _strip(item)


def _array(value: Any) -> AnyArray:
    if not isinstance(value, Tensor):
        raise InputError(f"The module holds a constant of type {type(value).__name__}.", "Keep only tensors in it.")
    array: AnyArray = value.detach().cpu().contiguous().numpy()
    return array
