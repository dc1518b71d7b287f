"""KuaiRand's models over many fields, staged alike: the native engine against OpenVINO and PyTorch on the same graphs.

    python -m bench.compiler.fields [--models autoint finalmlp finalnet deepfm bst] [--candidates 500]

Times a request whose items are kept from before, on one core: its own stage, then what is left per candidate.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.accuracy import RECIPES, samples_by_date, trained
from bench.common import Row, write
from bench.kuairand import sampled
from bowerbird.bundles.staged_model import Way
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.backends.openvino import OpenVino, import_openvino
from bowerbird.compiler.capture import capture
from bowerbird.compiler.lift import lift
from bowerbird.compiler.pair.lower import lower_pair
from bowerbird.compiler.staged import StagedProgram
from bowerbird.compiler.staging import stage_graph
from bowerbird.kernels.pair import PairProgram
from bowerbird.models.ranker import Ranker
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.trained import load_run_network

MODELS = ("autoint", "finalmlp", "finalnet", "deepfm", "bst")
WAYS = [
    Way(backend, precision)
    for backend in (Interpreter(), OpenVino(), Native())
    for precision in ("fp32", "bf16")
]  # fmt: skip
_ROUNDS = 15
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1}

Answers = dict[str, Tensor]


def network(name: str) -> Ranker:
    """Return a model of ``bench.accuracy``, trained."""
    source = sampled()
    run, _ = trained(source, SampleFolder(samples_by_date(source)), name, seed=0)
    return load_run_network(run).model


def request(program: StagedProgram, way: Way, features: dict[str, Tensor], count: int) -> Callable[[], Answers]:
    """Return what answers one request by a way, its items' values made before."""
    prepared = way.backend.prepare(program, way.precision)
    given = {**features, **prepared.item(features, count)}
    return lambda: prepared.pair({**given, **prepared.request(features, 1)}, count)


def measured(calls: dict[str, Callable[[], Answers]]) -> dict[str, float]:
    """Return each way's median milliseconds; the ways take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in taken.items()}


def difference(answers: Answers, expected: Answers) -> float:
    """Return the largest difference of a logit, relative beyond 1."""
    return max(
        float(((answers[task] - value).abs() / value.abs().clamp(min=1)).max()) for task, value in expected.items()
    )


def rows_of(name: str, count: int) -> list[Row]:
    """Return a model's rows: native fp32 and bf16, each against OpenVINO and PyTorch in the same precision."""
    model = network(name)
    lifting = lift(capture(model, model.inputs.example(4)), model.inputs.stages)
    program = stage_graph(lifting.graph, []).program
    features = model.inputs.request_rows(count)
    expanded = {key: value.expand(count, *value.shape[1:]) for key, value in features.items()}
    with torch.inference_mode():
        expected = model.eval()(expanded)
        calls = {way.name: request(program, way, features, count) for way in WAYS}
        found = {each: difference(call(), expected) for each, call in calls.items()}
        taken = measured(calls)
    share = lower_pair(program.pair).native_share
    rows = []
    for precision, allowed in TOLERANCE.items():
        ours = f"native.{precision}"
        for backend in ("openvino", "torch"):
            peer = f"{backend}.{precision}"
            rows.append(
                Row(
                    f"{name}, N = {count}: {ours} / {peer}", taken[ours], "ms", taken[peer], taken[peer] / taken[ours],
                    max(found[ours], found[peer]) <= allowed,
                    f"differ from eager by {found[ours]:.1e} / {found[peer]:.1e}; share {share:.2f}",
                )
            )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(RECIPES))
    parser.add_argument("--candidates", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in arguments.models for row in rows_of(name, arguments.candidates)]
    more: dict[str, Any] = {"openvino": import_openvino().__version__, "native": PairProgram.isa()}
    write("compiler_fields", rows, **more)


if __name__ == "__main__":
    main()
