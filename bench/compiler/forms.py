"""A case in the three forms that engines are given: tiled as most people deploy, split by hand, cut by our compiler."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.compiler.models import Case, expanded
from bench.compiler.split import split
from bowerbird.compiler.backends.graph_module import GraphModule
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.precision import in_bfloat16
from bowerbird.compiler.staged import StagedProgram

FormName = Literal["tiled", "split by hand", "staged"]
FORMS: tuple[FormName, ...] = ("tiled", "split by hand", "staged")


@dataclass(frozen=True)
class Part:
    """A module over tensors in order, with the names of what it takes and leaves; ``shared`` inputs have one row."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[bool, ...]

    @property
    def digest(self) -> str:
        """A name of its weights and of what it takes and leaves, for what is compiled of it."""
        digest = hashlib.sha256(repr((self.inputs, self.outputs, self.shared)).encode())
        for name, value in self.module.state_dict().items():
            digest.update(name.encode() + value.contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Form:
    """What runs once per request, what is kept of items, what runs per candidate; ``dtype`` is that of its numbers."""

    name: FormName
    request: Part | None
    item: Part | None
    pair: Part
    dtype: torch.dtype = torch.float32

    def given(self, features: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return everything that is there before a request is scored: its features, and what is kept of the items."""
        known = dict(expanded(dict(features), rows) if self.name == "tiled" else features)
        known = {name: _narrowed(value, self.dtype) for name, value in known.items()}
        if self.item is not None:
            with torch.inference_mode():
                kept = self.item.module(*(known[name] for name in self.item.inputs))
            known |= dict(zip(self.item.outputs, kept, strict=True))
        return {name: value.clone() for name, value in known.items()}


def _narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


class Tiled(nn.Module):
    """A module over a dict of tensors as one over tensors in order."""

    def __init__(self, module: nn.Module, names: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names, self.outputs = module, names, outputs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        answers = self.module(dict(zip(self.names, values, strict=True)))
        return tuple(answers[name] for name in self.outputs)


def form(name: FormName, case: Case, program: StagedProgram, dtype: torch.dtype = torch.float32) -> Form:
    """Return a case in a form; bfloat16 are modules whose weights and inputs are, or products of the staged graphs."""
    if name == "staged":
        return _staged(program, dtype)
    made = _tiled(case) if name == "tiled" else _split(case)
    if dtype == torch.float32:
        return made
    parts = [
        None if part is None else Part(copy.deepcopy(part.module).to(dtype), part.inputs, part.outputs, part.shared)
        for part in (made.request, made.item, made.pair)
    ]
    assert parts[2] is not None
    return Form(name, parts[0], parts[1], parts[2], dtype)


def _tiled(case: Case) -> Form:
    names, outputs = case.reads, case.tasks
    return Form("tiled", None, None, Part(Tiled(case.module, names, outputs), names, outputs, (False,) * len(names)))


def _split(case: Case) -> Form:
    made = split(case)
    features = case.shape.features(2)
    with torch.inference_mode():
        left = len(made.request(*(features[name] for name in made.reads)))
        kept = len(made.item(features["item"]))
    request = tuple(f"request.{place}" for place in range(left))
    item = tuple(f"item.{place}" for place in range(kept))
    return Form(
        "split by hand",
        Part(made.request.eval(), made.reads, request, (True,) * len(made.reads)),
        Part(made.item.eval(), ("item",), item, (False,)),
        Part(made.pair.eval(), (*request, *item), case.tasks, (True,) * left + (False,) * kept),
    )


def _staged(program: StagedProgram, dtype: torch.dtype) -> Form:
    pair = program.pair if dtype == torch.float32 else in_bfloat16(program.pair)
    return Form("staged", _graph_part(program.request), _graph_part(program.item), _graph_part(pair))


def _graph_part(graph: RowGraph) -> Part:
    module = GraphModule(graph)
    return Part(module, tuple(module.names), tuple(module.outputs), tuple(node.shared for node in module.inputs))
