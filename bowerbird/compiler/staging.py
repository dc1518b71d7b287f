"""From a module to its staged program: capture, lift, rewrite, cut; and the proof that it still answers alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bowerbird.compiler.capture import capture
from bowerbird.compiler.cost import Rates, worth_storing
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import RowGraph
from bowerbird.compiler.lift import lift
from bowerbird.compiler.lifting.lifter import Coupling
from bowerbird.compiler.rewrite import Applied, rewrite
from bowerbird.compiler.rewrites import LAWS
from bowerbird.compiler.rewrites.activations import with_activations
from bowerbird.compiler.rewrites.gathering import gathered
from bowerbird.compiler.rewrites.merging import merged
from bowerbird.compiler.stage import Stage
from bowerbird.compiler.staged import StagedProgram, staged
from bowerbird.errors import InputError

Features = Mapping[str, Tensor]
PROOF_ROWS = (1, 2, 5, 64)
"""Numbers of candidates for which a staged program is compared with its module."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Compilation:
    """A staged program with what was done to get it.

    ``written`` is the graph as the module was written, ``graph`` the rewritten one that ``program`` is cut from.
    """

    written: RowGraph
    graph: RowGraph
    program: StagedProgram
    applied: list[Applied]
    couplings: list[Coupling]


def compile_module(
    module: nn.Module, example: Features, stages: Mapping[str, Stage], rates: Rates | None = None
) -> Compilation:
    """Return the staged program of a module over a dict of tensors [rows, ...].

    ``example`` has its inputs with at least two rows, ``stages`` the stage of each; ``rates`` are this machine's, by
    which it is decided what of an item is kept. Raises InputError, with file and line, for what cannot be exported.
    """
    lifting = lift(capture(module, example), stages)
    return stage_graph(lifting.graph, lifting.couplings, rates)


def stage_graph(graph: RowGraph, couplings: list[Coupling], rates: Rates | None = None) -> Compilation:
    """Return the staged program of a row graph."""
    done = rewrite(with_activations(graph), LAWS)
    final = merged(done.graph)
    program = gathered(staged(final, worth_storing(rates or Rates())))
    return Compilation(graph, final, program, done.applied, couplings)


def answers(program: StagedProgram, features: Features, rows: int) -> dict[str, Tensor]:
    """Return outputs [rows, ...] of a program run stage by stage; features of the request have one row."""
    request, item, pair = (Executable(graph) for graph in (program.request, program.item, program.pair))
    given = {**features, **request(features, 1), **item(features, rows)}
    return {name: value.expand(rows, *value.shape[1:]) for name, value in pair(given, rows).items()}


def prove(module: nn.Module, program: StagedProgram, features_of: Callable[[int], Features]) -> float:
    """Compare a program with its module in eager mode; return the largest difference of a logit.

    ``features_of(rows)`` are features of one request's candidates. Differences are relative where a logit is beyond 1.
    Raises InputError where one is above 1e-5.
    """
    worst = 0.0
    for rows in PROOF_ROWS:
        features = features_of(rows)
        expanded = {name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}
        with torch.inference_mode():
            expected = module(expanded)
        for name, answer in answers(program, features, rows).items():
            scale = expected[name].abs().clamp(min=1.0)
            worst = max(worst, float(((answer - expected[name]).abs() / scale).nan_to_num(torch.inf).max()))
    if worst > TOLERANCE:
        raise InputError(
            f"The staged program of {type(module).__name__} differs from the module by {worst:.3g}.",
            "Report this with the module: it is the compiler's mistake.",
        )
    return worst
