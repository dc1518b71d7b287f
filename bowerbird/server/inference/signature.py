"""A scene as a model of named tensors: which inputs it takes, and how they become a question.

``user`` [1] and ``candidates`` [n] are required. ``context.COLUMN`` [1] is a column of the exposure, ``features.NAME``
a given feature: [1] for all candidates or [n]; vectors [1, width] or [n, width]. A NaN is a missing number. Outputs are
``scores.LABEL`` and ``ranking``, FP32 [n].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bowerbird.errors import InputError
from bowerbird.plan.mistake import nearest
from bowerbird.server.inference.tensors import BYTES, FLOATS, INTEGERS, Tensor
from bowerbird.serving.live_model import LiveModel
from bowerbird.serving.ranker import Question
from bowerbird.serving.request_form import RequestForm

USER, CANDIDATES, CONTEXT, FEATURES = "user", "candidates", "context.", "features."
SCORES, RANKING = "scores.", "ranking"
_DATATYPES = {"text": BYTES, "integer": "INT64", "flag": "BOOL", "number": "FP32", "vector": "FP32"}
_ACCEPTED = {BYTES: (BYTES,), "INT64": INTEGERS, "BOOL": ("BOOL",), "FP32": FLOATS + INTEGERS}
"""By the datatype of an input: those that are taken for it."""


@dataclass(frozen=True)
class TensorForm:
    """A tensor's name, datatype and shape; -1 stands for the number of candidates."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Signature:
    """The inputs and outputs of a scene that a version answers."""

    def __init__(self, form: RequestForm, model: LiveModel) -> None:
        self.model = model
        self._form = form
        inputs = [
            TensorForm(USER, _DATATYPES[form.user.id.value], (1,)),
            TensorForm(CANDIDATES, _DATATYPES[form.item.id.value], (-1,)),
        ]
        inputs += [
            TensorForm(CONTEXT + name, _DATATYPES[kind.value], (1,)) for name, kind in form.context_types.items()
        ]
        for name, giveable in model.given.types().items():
            shape = (-1, giveable.width) if giveable.type == "vector" else (-1,)
            inputs.append(TensorForm(FEATURES + name, _DATATYPES[giveable.type], shape))
        self.inputs = {each.name: each for each in inputs}
        names = [*(SCORES + task for task in model.tasks), RANKING]
        self.outputs = {name: TensorForm(name, "FP32", (-1,)) for name in names}

    def question(self, tensors: Sequence[Tensor]) -> Question:
        """Return what the tensors ask; InputError names the first that does not fit."""
        given = self._by_name(tensors)
        for name in (USER, CANDIDATES):
            if name not in given:
                raise InputError(f"There is no input {name!r}.", f"Send {USER!r} and {CANDIDATES!r}.")
        rows = self._rows(given[CANDIDATES])
        context: dict[str, Any] = {}
        features: dict[str, Any] = {}
        by_candidate: list[dict[str, Any]] = [{} for _ in range(rows)]
        for name, tensor in given.items():
            if name.startswith(CONTEXT):
                context[name.removeprefix(CONTEXT)] = self._single(tensor)
            elif name.startswith(FEATURES):
                self._lay(tensor, features, by_candidate)
        return Question(
            self._form.user_id(self._single(given[USER])),
            self._form.context(context),
            self._form.item_ids(given[CANDIDATES].values),
            features,
            {row: values for row, values in enumerate(by_candidate) if values},
        )

    def output_names(self, wanted: Sequence[str]) -> list[str]:
        """Return the outputs to send: those wanted, or all; InputError for an unknown one."""
        for name in wanted:
            if name not in self.outputs:
                raise InputError(f"The model has no output {name!r}.", nearest(name, list(self.outputs)))
        return list(wanted) or list(self.outputs)

    def _by_name(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        given: dict[str, Tensor] = {}
        for tensor in tensors:
            form = self.inputs.get(tensor.name)
            if form is None:
                raise InputError(f"The model has no input {tensor.name!r}.", nearest(tensor.name, list(self.inputs)))
            if tensor.name in given:
                raise InputError(f"Input {tensor.name!r} is sent twice.", "Send it once.")
            if tensor.datatype not in _ACCEPTED[form.datatype]:
                raise InputError(f"Input {tensor.name!r} has the datatype {tensor.datatype}.", f"Send {form.datatype}.")
            given[tensor.name] = tensor
        return given

    def _rows(self, candidates: Tensor) -> int:
        if len(candidates.shape) != 1:
            raise _misshapen(candidates, "[n], one id for each candidate")
        return candidates.shape[0]

    def _single(self, tensor: Tensor) -> Any:
        if len(tensor.values) != 1:
            raise _misshapen(tensor, "[1]")
        return _value(tensor, tensor.values[0])

    def _lay(self, tensor: Tensor, features: dict[str, Any], by_candidate: list[dict[str, Any]]) -> None:
        """Put a feature's values where they belong: one for all candidates, or one for each."""
        name, rows = tensor.name.removeprefix(FEATURES), len(by_candidate)
        width = self.inputs[tensor.name].shape[1:]
        if tensor.shape == (1, *width):
            features[name] = _cells(tensor, width)[0]
        elif tensor.shape == (rows, *width):
            for values, cell in zip(by_candidate, _cells(tensor, width), strict=True):
                values[name] = cell
        else:
            each, one = [rows, *width], [1, *width]
            raise _misshapen(tensor, f"{each}, or {one} for all candidates")


def _cells(tensor: Tensor, width: tuple[int, ...]) -> list[Any]:
    if not width:
        return [_value(tensor, value) for value in tensor.values]
    (size,) = width
    return [tensor.values[start : start + size] for start in range(0, len(tensor.values), size)]


def _value(tensor: Tensor, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise InputError(f"Input {tensor.name!r} holds {value}.", "Send a finite number, or NaN for a missing one.")
    return value


def _misshapen(tensor: Tensor, wanted: str) -> InputError:
    return InputError(f"Input {tensor.name!r} has the shape {list(tensor.shape)}.", f"It is {wanted}.")
