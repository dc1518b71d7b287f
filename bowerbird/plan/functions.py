"""The users' own functions at run time: their inputs are read as hidden features, their outputs laid beside the others.

The engines do not know them. One evaluator completes what an engine read, live and in replay alike, so that a function
which looks at each row alone gives the same offline and online; one that does not is refused at its first rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.errors import FunctionError
from bowerbird.kernels.keys import keys_of_integers
from bowerbird.plan.block import FeatureBlock, Keys, Numbers
from bowerbird.plan.encode import encode_column
from bowerbird.plan.spec import Feature, Node, Plan
from bowerbird.plan.user_code import (
    UserFunction,
    digest_of,
    function_files,
    load_function,
    read_function_files,
    resolve_function,
)

HIDDEN = "#"
"""Begins the name of a feature that is read for a function alone; the node's number follows."""
_CHECKED_CALLS = 8
Column = npt.NDArray[Any]


@dataclass(frozen=True)
class FunctionCost:
    """What a feature's function has cost so far: ``calls``, the ``rows`` that it was given, ``seconds``."""

    calls: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Call:
    """A feature and the function that makes it, with its inputs' nodes."""

    feature: Feature
    function: UserFunction
    inputs: list[tuple[int, Node]]


def native_plan(plan: Plan) -> Plan:
    """Return the plan that an engine reads: without functions' features, with their inputs as hidden ones.

    The plan itself where it has no function.
    """
    called = [feature for feature in plan.features if plan.nodes[feature.node].op == "function"]
    if not called:
        return plan
    visible = [feature for feature in plan.features if feature not in called]
    inputs = dict.fromkeys(number for feature in called for number in plan.nodes[feature.node].inputs)
    return msgspec.structs.replace(plan, features=[*visible, *(_hidden(plan, number) for number in inputs)])


def _hidden(plan: Plan, number: int) -> Feature:
    node = plan.nodes[number]
    return Feature(f"{HIDDEN}{number}", "category" if node.is_category else "number", node.stage, number)


class FunctionEvaluator:
    """Completes blocks of ``native_plan(plan)`` with the features that are users' functions; thread-safe.

    Functions are found by their hash where their source is known to the process, else in ``folder`` or among the
    installed packages; InputError where they are not there or have changed.
    """

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        self.native_plan = native_plan(plan)
        self._names = [feature.name for feature in plan.features]
        self._calls = [_call(plan, feature, folder) for feature in plan.features if _is_called(plan, feature)]
        self._costs = {call.feature.name: FunctionCost() for call in self._calls}
        self._lock = threading.Lock()

    @property
    def costs(self) -> dict[str, FunctionCost]:
        """What each function has cost so far, by feature."""
        return dict(self._costs)

    def complete(self, block: FeatureBlock) -> FeatureBlock:
        """Return a block with the functions' features and without the hidden ones.

        A function is called once, with its inputs as columns that it may not write to: uint64 keys (0 missing) or
        float32 numbers (NaN unknown), of one length; not at all where that is 0. Raises FunctionError where it fails,
        returns what cannot be the feature, or mixes rows.
        """
        if not self._calls:
            return block
        columns: dict[str, Any] = {**block.categories, **block.numbers}
        categories, numbers = dict(block.categories), dict(block.numbers)
        for call in self._calls:
            target: dict[str, Any] = categories if call.feature.kind == "category" else numbers
            target[call.feature.name] = self._evaluate(call, columns)
        return FeatureBlock(
            {name: categories[name] for name in self._names if name in categories},
            {name: numbers[name] for name in self._names if name in numbers},
            block.sequences,
            block.lsn,
            block.vectors,
        )

    def _evaluate(self, call: _Call, columns: dict[str, Any]) -> Column:
        inputs = _inputs(call, columns)
        rows = len(inputs[0])
        if rows == 0:
            return np.empty(0, np.uint64 if call.feature.kind == "category" else np.float32)
        started = time.perf_counter()
        made = _run(call, inputs)
        if self._count(call.feature.name, rows, time.perf_counter() - started) <= _CHECKED_CALLS and rows > 1:
            _check_rows(call, inputs, made)
        return made

    def _count(self, name: str, rows: int, seconds: float) -> int:
        """Add a call to what a feature has cost; return how many calls there were."""
        with self._lock:
            cost = self._costs[name]
            self._costs[name] = FunctionCost(cost.calls + 1, cost.rows + rows, cost.seconds + seconds)
        return cost.calls + 1


def _is_called(plan: Plan, feature: Feature) -> bool:
    return plan.nodes[feature.node].op == "function"


def _call(plan: Plan, feature: Feature, folder: Path | None) -> _Call:
    node = plan.nodes[feature.node]
    assert node.function is not None
    inputs = [(number, plan.nodes[number]) for number in node.inputs]
    return _Call(feature, resolve_function(node.function, folder), inputs)


def _inputs(call: _Call, columns: dict[str, Any]) -> list[Column]:
    """Return the inputs' columns, those of the request repeated for each candidate that the feature has a value of."""
    own = [columns[f"{HIDDEN}{number}"] for number, _ in call.inputs]
    stages = [node.stage for _, node in call.inputs]
    rows = next((len(column) for column, stage in zip(own, stages, strict=True) if stage != "request"), len(own[0]))
    given = []
    for column in own:
        full = column.view() if len(column) == rows else np.repeat(column, rows)
        full.flags.writeable = False
        given.append(full)
    return given


def _run(call: _Call, inputs: Sequence[Column]) -> Column:
    try:
        returned = call.function(*inputs)
    except Exception as error:
        raise _failure(call, f"raised {type(error).__name__}: {error}") from error
    if isinstance(returned, pa.Array | pa.ChunkedArray):
        returned = returned.to_numpy() if isinstance(returned, pa.ChunkedArray) else returned.to_numpy(False)
    column = np.asarray(returned)
    if column.shape != inputs[0].shape:
        raise _failure(call, f"returned shape {column.shape} for {len(inputs[0])} rows")
    return _as_keys(call, column) if call.feature.kind == "category" else _as_numbers(call, column)


def _as_numbers(call: _Call, column: Column) -> Numbers:
    if column.dtype.kind not in "biuf":
        raise _failure(call, f"returned {column.dtype}, and a number is declared")
    with np.errstate(over="ignore"):
        numbers: Numbers = column.astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _as_keys(call: _Call, column: Column) -> Keys:
    """Return keys as they are (uint64), or those of whole numbers and texts; no text and an empty one are missing."""
    if column.dtype == np.uint64:
        return column.copy()
    if column.dtype.kind in "bi":
        return keys_of_integers(column.astype(np.int64))
    if column.dtype.kind not in "OUT":
        raise _failure(call, f"returned {column.dtype}, and a category is whole numbers, texts or keys")
    try:
        texts = pa.array([value or None for value in column.tolist()], pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _failure(call, f"returned a category that is no text: {error}") from error
    return encode_column(texts, "text")


def _check_rows(call: _Call, inputs: Sequence[Column], made: Column) -> None:
    """Refuse a function whose value of a row depends on other rows or on chance."""
    alone, among = _run(call, [column[-1:] for column in inputs])[0], made[-1]
    exact = call.feature.kind == "category"
    if alone != among if exact else not np.isclose(alone, among, rtol=1e-5, atol=1e-6, equal_nan=True):
        raise _failure(call, f"gave {among} for a row among {len(made)} and {alone} for that row alone")


def _failure(call: _Call, what: str) -> FunctionError:
    return FunctionError(
        f"Function {call.function.path!r} of feature {call.feature.name!r} {what}.",
        "It must return one value for each row, from that row's inputs alone: correct it and make new samples.",
    )


__all__ = [
    "HIDDEN",
    "FunctionCost",
    "FunctionEvaluator",
    "digest_of",
    "function_files",
    "load_function",
    "native_plan",
    "read_function_files",
]
