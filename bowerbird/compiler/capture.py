"""A module as a list of ATen calls for any number of rows, each with the user's file and line."""

from __future__ import annotations

import operator
import re
import threading
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, default_decompositions, export

from bowerbird.compiler.graph import Where
from bowerbird.compiler.operations import name_of, overload
from bowerbird.compiler.size import Size
from bowerbird.errors import InputError

GRAPH_LOCK = threading.Lock()
"""Held while PyTorch makes or reads a graph: it changes state of the whole process meanwhile."""
_KEPT = ("linear.default", "matmul.default", "layer_norm.default", "softmax.int", "nan_to_num.default")
"""Operators that stay as they are: the compiler's own rules say more of them than of what they are made of."""
_SKIPPED = re.compile(r"_assert|sym_constrain|profiler")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Name:
    """A reference to an input, a weight or an earlier call."""

    name: str


@dataclass(frozen=True)
class Call:
    """One ATen call: its target (``add.Tensor``), arguments, and what it returns.

    Arguments are names, sizes, plain values or lists of these. Of an operator with several results there is one call
    for each that is used: ``output`` is its place.
    """

    name: str
    target: str
    arguments: tuple[Any, ...]
    shape: tuple[Size, ...]
    dtype: str
    output: int | None
    where: Where


@dataclass(frozen=True)
class Captured:
    """What a module computes: calls in order, weights by name, inputs by the module's names, outputs by name."""

    inputs: dict[str, str]
    weights: dict[str, Tensor]
    calls: list[Call]
    outputs: dict[str, str]
    shapes: dict[str, tuple[Size, ...]]
    dtypes: dict[str, str]


def capture(module: nn.Module, example: Mapping[str, Tensor]) -> Captured:
    """Return what a module over a dict of tensors [rows, ...] computes in evaluation mode, for any number of rows.

    ``example`` are its inputs with at least two rows. Raises InputError, with file and line, for what cannot be
    exported: control flow or shapes that depend on data, or results that are random.
    """
    return read_exported(_exported(module, dict(example)), list(example))


def _exported(module: nn.Module, example: dict[str, Tensor]) -> ExportedProgram:
    training = module.training
    module.eval()
    rows = Dim("rows", min=1)
    table: Any = default_decompositions()
    for target in _KEPT:
        table.pop(overload(target), None)
    try:
        with GRAPH_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, of its own code
            program = export(module, (example,), dynamic_shapes=({name: {0: rows} for name in example},))
            decomposed: ExportedProgram = program.run_decompositions(table)
        return decomposed
    except Exception as error:
        raise refusal(type(module).__name__, error) from error
    finally:
        module.train(training)


def refusal(name: str, error: BaseException) -> InputError:
    """Return the refusal of a module that PyTorch could not export, with the user's line as far as it is known."""
    frames = [Where(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    frames = [frame for frame in frames if _is_users(frame) and "bowerbird/compiler/" not in frame.file]
    found = _last_frame(str(error)) or (frames[-1] if frames else None)
    place = f" at {found}" if found else ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"{name} cannot be exported{place}: {reason}",
        "Write its forward without control flow, shapes or indices that depend on data or on the number of rows.",
    )


def read_exported(program: ExportedProgram, names: list[str]) -> Captured:
    """Return an exported program's calls; ``names`` are the module's inputs in the program's order."""
    signature = program.graph_signature
    held = {**program.state_dict, **program.constants}
    weights: dict[str, Tensor] = {}
    given: list[str] = []
    for spec in signature.input_specs:
        if spec.target is None:
            given.append(spec.arg.name)
        else:
            weights[spec.arg.name] = held[spec.target]
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        changed = next(iter({**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}.values()))
        raise InputError(
            f"The module writes to {changed!r} while it answers.", "Keep state out of its forward in evaluation mode."
        )
    shapes: dict[str, tuple[Size, ...]] = {}
    dtypes: dict[str, str] = {}
    calls = []
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            shapes[node.name], dtypes[node.name] = sizes(value.shape), name_of(value.dtype)
        if node.op == "call_function" and isinstance(value, Tensor) and not _SKIPPED.search(str(node.target)):
            calls.append(_call(node, shapes[node.name], dtypes[node.name]))
    spec = program.call_spec.out_spec
    leaves = [item.arg.name for item in signature.output_specs]
    return Captured(
        inputs=dict(zip(names, given, strict=True)),
        weights=weights,
        calls=calls,
        outputs=_output_names(torch.utils._pytree.tree_unflatten(leaves, spec)),
        shapes=shapes,
        dtypes=dtypes,
    )


def _output_names(outputs: Any) -> dict[str, str]:
    if isinstance(outputs, dict) and all(isinstance(value, str) for value in outputs.values()):
        return {str(name): value for name, value in outputs.items()}
    raise InputError("The module does not return a dict of tensors.", "Return logits [rows] by task.")


def _call(node: fx.Node, shape: tuple[Size, ...], dtype: str) -> Call:
    made: Any = node
    output = None
    if node.target is operator.getitem:
        made, output = node.args[0], int(str(node.args[1]))
    return Call(
        name=node.name,
        target=str(made.target).removeprefix("aten."),
        arguments=_arguments(made),
        shape=shape,
        dtype=dtype,
        output=output,
        where=_last_frame(made.meta.get("stack_trace") or "") or Where(),
    )


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return a node's arguments in the order of the operator's schema, defaults left out at the end."""
    given = [_argument(each) for each in node.args]
    schema = getattr(node.target, "_schema", None)
    if schema is None or not node.kwargs:
        return tuple(given)
    rest = schema.arguments[len(given) :]
    last = max(place for place, each in enumerate(rest) if each.name in node.kwargs)
    for each in rest[: last + 1]:
        named = each.name in node.kwargs
        given.append(_argument(node.kwargs[each.name]) if named else each.default_value)
    return tuple(given)


def _argument(value: Any) -> Any:
    if isinstance(value, fx.Node):
        inner = value.meta.get("val")
        return size_of(inner) if _is_size(inner) else Name(value.name)
    if isinstance(value, torch.SymInt):
        return size_of(value)
    if isinstance(value, list | tuple):
        return [_argument(each) for each in value]
    return value


def sizes(shape: torch.Size) -> tuple[Size, ...]:
    """Return a shape whose dimensions are numbers or multiples of the number of rows."""
    return tuple(size_of(each) for each in shape)


def size_of(value: Any) -> Size:
    """Return a size as ``times`` · rows + ``plus``; InputError for any other dependence on the rows."""
    if isinstance(value, int):
        return Size(0, value)
    expression = value.node.expr if isinstance(value, torch.SymInt) else sympy.sympify(value)
    symbols = sorted(expression.free_symbols, key=str)
    if not symbols:
        return Size(0, int(expression))
    if len(symbols) == 1 and expression.is_polynomial(symbols[0]) and sympy.degree(expression, symbols[0]) == 1:
        times, plus = (sympy.Poly(expression, symbols[0]).nth(power) for power in (1, 0))
        if times.is_integer and plus.is_integer:
            return Size(int(times), int(plus))
    raise InputError(
        f"A size of the module is {expression}, which is no multiple of the number of rows.",
        "Write its forward so that each row is computed from that row's inputs.",
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat | int | bool | float)


def _last_frame(trace: str) -> Where | None:
    frames = [Where(file, int(line)) for file, line in _FRAME.findall(trace)]
    users = [frame for frame in frames if _is_users(frame)]
    return users[-1] if users else None


def _is_users(frame: Where) -> bool:
    return not frame.file.startswith(_TORCH) and not frame.file.startswith("<")
