"""What is compared: every engine on every form of a case, and our own backends as a server runs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.compiler.engines import ENGINES, TUNED_ROWS, Engine, Step
from bench.compiler.forms import FORMS, Form, FormName, Part, form
from bench.compiler.models import Case
from bowerbird.compiler.backends.contract import Backend, Prepared, as_tensor
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.backends.openvino import OpenVino
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram

Features = dict[str, Tensor]
Run = Callable[[], dict[str, Tensor]]


@dataclass
class Ready:
    """A peer that is ready: ``bind`` returns what scores one request, with everything given beforehand."""

    bind: Callable[[Features, int], Run]
    prepared: float
    """Seconds that compiling and loading took."""
    bytes: int
    """What it keeps in files."""


@dataclass(frozen=True)
class Peer:
    """An engine on a form, or one of our backends."""

    engine: str
    precision: Precision
    form: FormName
    ours: bool
    prepare: Callable[[Case, StagedProgram, Path], Ready]

    @property
    def name(self) -> str:
        """Its name in tables and files."""
        return f"{self.engine} {self.precision}, {'ours' if self.ours else self.form}"


@dataclass
class _Steps:
    """An engine's steps of a form, made when a number of rows is first met."""

    engine: Engine
    form: Form
    folder: Path
    made: dict[int, tuple[Step | None, Step]] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    """Where its parts' files are."""

    def bind(self, features: Features, rows: int) -> Run:
        given = self.form.given(features, rows)
        request, pair = self.form.request, self.form.pair
        first, second = self.steps(given, rows)
        known = {name: self.engine.give(value) for name, value in given.items()}

        def run() -> dict[str, Tensor]:
            if request is not None and first is not None:
                left = first([known[name] for name in request.inputs])
                known.update(zip(request.outputs, left, strict=True))
            answers = second([known[name] for name in pair.inputs])
            return {name: self.engine.take(value) for name, value in zip(pair.outputs, answers, strict=True)}

        return run

    def steps(self, given: Features, rows: int) -> tuple[Step | None, Step]:
        """Return the request's step and the candidates'."""
        key = 0 if self.engine.any_rows else rows
        if key not in self.made:
            known = dict(given)
            if self.form.request is not None:
                known |= _answers(self.form.request, known)
            self.made[key] = (
                None if self.form.request is None else self._step(self.form.request, known, "request"),
                self._step(self.form.pair, known, "pair"),
            )
        return self.made[key]

    def _step(self, part: Part, known: Features, name: str) -> Step:
        if not part.outputs:
            return lambda values: []
        self.folders.append(self.folder / f"{name}.{part.digest}")
        return self.engine.step(part, [known[each] for each in part.inputs], self.folders[-1])


def _answers(part: Part, known: Features) -> Features:
    with torch.no_grad():
        return dict(zip(part.outputs, part.module(*(known[name] for name in part.inputs)), strict=True))


def _of_engine(engine: Engine, name: FormName) -> Peer:
    def prepare(case: Case, program: StagedProgram, folder: Path) -> Ready:
        started = time.perf_counter()
        steps = _Steps(engine, form(name, case, program, engine.dtype), folder)
        steps.bind(case.shape.features(TUNED_ROWS), TUNED_ROWS)
        return Ready(steps.bind, time.perf_counter() - started, sum(size_of(each) for each in steps.folders))

    return Peer(engine.name, engine.precision, name, False, prepare)


def _of_backend(backend: Backend, precision: Precision, title: str) -> Peer:
    def prepare(case: Case, program: StagedProgram, folder: Path) -> Ready:
        started = time.perf_counter()
        prepared: Prepared = backend.prepare(program, precision, folder)
        seconds = time.perf_counter() - started

        def bind(features: Features, rows: int) -> Run:
            kept = {name: as_tensor(value).clone() for name, value in prepared.item(features, rows).items()}
            known: dict[str, Any] = {**features, **kept}
            return lambda: prepared.pair({**known, **prepared.request(features, 1)}, rows)

        return Ready(bind, seconds, size_of(folder))

    return Peer(title, precision, "staged", True, prepare)


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


PEERS = [
    *(_of_engine(engine, name) for name in FORMS for engine in ENGINES
      if not (name == "staged" and engine.name == "torch.compile")),
    *(_of_backend(Native(), precision, "native") for precision in Native().precisions),
    *(_of_backend(OpenVino(), precision, "OpenVINO") for precision in OpenVino().precisions),
    _of_backend(Interpreter(), "bf16", "PyTorch"),
]  # fmt: skip
