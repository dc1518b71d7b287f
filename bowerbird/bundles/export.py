"""A dense module as a graph in JSON and arrays: ``torch.export`` without its pickles."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch._export.serde.serialize import serialize
from torch.export import Dim, ExportedProgram, export

from bowerbird.bundles.arrays import AnyArray
from bowerbird.compiler.capture import GRAPH_LOCK
from bowerbird.errors import InputError
from bowerbird.models.ranker import Ranker

_EXAMPLE_ROWS = 4
_PRIVATE_METADATA = ("stack_trace",)
"""Metadata that would carry the paths of the machine that exported."""


def export_program(model: Ranker) -> ExportedProgram:
    """Return the module's graph for any number of rows, in evaluation mode.

    Raises InputError when the module cannot be captured (control flow that depends on data, say).
    """
    example = model.inputs.example(_EXAMPLE_ROWS, _generator())
    return _capture(model, example, {name: {0: Dim("rows", min=1)} for name in example})


def export_request_program(model: Ranker) -> ExportedProgram | None:
    """Return the module's graph for the candidates of one request, whose sequences are given once.

    What depends on such a sequence alone is then computed once, where the module broadcasts. None where the
    plan has no such sequence, or where the module does not take it or does not answer as with expanded ones.
    """
    once = model.inputs.request_sequences
    if not once:
        return None
    example = model.inputs.request_example(_EXAMPLE_ROWS, _generator())
    dynamic = {name: {} if name in once else {0: Dim("rows", min=1)} for name in example}
    try:
        program = _capture(model, example, dynamic)
    except InputError:
        return None
    return program if _broadcasts(model, program) else None


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _capture(model: Ranker, example: dict[str, Tensor], dynamic: dict[str, Any]) -> ExportedProgram:
    training = model.training
    model.eval()
    try:
        with GRAPH_LOCK:
            return export(model, (example,), dynamic_shapes=(dynamic,))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{type(model).__name__} cannot be exported: {error}",
            "Write its forward without control flow or shapes that depend on data.",
        ) from error
    finally:
        model.train(training)


def _broadcasts(model: Ranker, program: ExportedProgram) -> bool:
    """Return whether the graph of one request answers as the module does with its sequences expanded."""
    training = model.training
    model.eval()
    graph = program.module()
    equal = True
    for rows in (1, 7):
        given = model.inputs.request_example(rows, _generator())
        expanded = {name: value.expand(rows, *value.shape[1:]) for name, value in given.items()}
        with torch.inference_mode():
            ours, theirs = graph(given), model(expanded)
        equal &= all(torch.allclose(ours[task], theirs[task], atol=1e-5) for task in theirs)
    model.train(training)
    return equal


def pack_program(
    program: ExportedProgram, model: Ranker, request: ExportedProgram | None = None
) -> tuple[bytes, dict[str, AnyArray]]:
    """Return the graph as JSON (``inputs``, ``outputs``, ``graph``, ``request_graph``) and its weights as arrays."""
    document = {
        "inputs": list(model.inputs.example(1)),
        "outputs": [task.name for task in model.tasks],
        "request_sequences": list(model.inputs.request_sequences),
        "graph": _graph(program),
        "request_graph": None if request is None else _graph(request),
    }
    arrays = _arrays(program) | ({} if request is None else _arrays(request))
    return json.dumps(document, separators=(",", ":")).encode(), arrays


def _graph(program: ExportedProgram) -> Any:
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
    return graph


def _arrays(program: ExportedProgram) -> dict[str, AnyArray]:
    parameters = set(program.graph_signature.parameters)
    arrays = {
        f"{'parameter' if name in parameters else 'buffer'}/{name}": _array(value)
        for name, value in program.state_dict.items()
    }
    return arrays | {f"constant/{name}": _array(value) for name, value in program.constants.items()}


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
