"""Stacks of inputs joined as arrays are what PyTorch makes of them, whoever gives the inputs."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.compiler.backends.contract import Kept
from bowerbird.compiler.backends.stacked import StackedInputs
from bowerbird.compiler.execute import Executable
from bowerbird.compiler.graph import Builder, RowGraph
from bowerbird.compiler.operations import Stack
from bowerbird.kernels.pair_rows import StoredRows


def _graph(numbers):
    build = Builder()
    inputs = [build.input(f"x{number}", (), "float32", "pair") for number in range(numbers)]
    other = build.add(Stack(), [*inputs, build.scalar(2.0)])
    return RowGraph(build, {"stack": build.add(Stack(), inputs), "other": other})


def _kept(values):
    return Kept(StoredRows("fp32", values[::-1].reshape(-1, 1).copy()), np.arange(len(values))[::-1].copy(), ())


@given(st.lists(st.sampled_from(["array", "tensor", "kept", "once"]), min_size=1, max_size=6), st.integers(1, 9))
def test_stacks_are_those_of_pytorch(kinds, rows):
    random = np.random.default_rng(rows)
    plain = {
        f"x{number}": random.normal(size=1 if kind == "once" else rows).astype(np.float32)
        for number, kind in enumerate(kinds)
    }
    forms = {"array": np.asarray, "once": np.asarray, "tensor": torch.from_numpy, "kept": _kept}
    known = {name: forms[kind](value) for (name, value), kind in zip(plain.items(), kinds, strict=True)}
    graph = _graph(len(kinds))
    tensors = {name: torch.from_numpy(value) for name, value in plain.items()}
    expected = Executable(graph)(tensors, rows)
    stacked = StackedInputs(graph)
    found = Executable(stacked.graph)({**tensors, **stacked(known)}, rows)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
