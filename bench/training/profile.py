"""Where a step's time goes in ours: PyTorch's profiler over some steps in the middle of a run."""

from __future__ import annotations

import time

import torch
from torch.profiler import ProfilerActivity, profile

from bench.common import WORK
from bench.training.cases import FIXED, Case
from bowerbird.samples.columns import SPLIT_DATES
from bowerbird.training.progress import Silent
from bowerbird.training.run import TrainRequest, train_model

_FIRST, _STEPS, _ROWS = 10, 25, 25


class _Profiler(Silent):
    """Profiles ``_STEPS`` steps from step ``_FIRST`` on."""

    def __init__(self) -> None:
        self.profile = profile(activities=[ProfilerActivity.CPU])
        self.seconds = 0.0
        self._started = 0.0

    def advance(self, step: int, loss: float, rate: float) -> None:
        if step == _FIRST:
            self.profile.start()
            self._started = time.perf_counter()
        elif step == _FIRST + _STEPS:
            self.seconds = time.perf_counter() - self._started
            self.profile.stop()


def profile_steps(case: Case, threads: int) -> str:
    """Train one epoch and return a table of operations: milliseconds of their own a step, and share of the step.

    What no operation of PyTorch accounts for (Python, native kernels outside of it, waiting) is the last line.
    """
    torch.set_num_threads(threads)
    profiler = _Profiler()
    train_model(
        TrainRequest(
            samples=case.samples(), runs_folder=WORK / "training-runs", model=case.model,
            validation=SPLIT_DATES["validation"], options=case.options, embedding=case.embedding,
            trainer={**FIXED, **case.trainer, "epochs": 1},
        ),
        profiler,
    )  # fmt: skip
    step = profiler.seconds / _STEPS
    found = [(each.self_cpu_time_total / 1e6 / _STEPS, each) for each in profiler.profile.key_averages()]
    found.sort(key=lambda pair: -pair[0])
    lines = [f"{case.name}, {threads} thread(s): {1e3 * step:.1f} ms a step of {FIXED['batch_size']} rows, profiled"]
    lines += [
        f"  {1e3 * seconds:8.2f} ms {100 * seconds / step:5.1f}%  {each.count // _STEPS:5} calls  {each.key}"
        for seconds, each in found[:_ROWS]
    ]
    rest = sum(seconds for seconds, _ in found[_ROWS:])
    lines.append(f"  {1e3 * rest:8.2f} ms {100 * rest / step:5.1f}%  other operations")
    left = step - sum(seconds for seconds, _ in found)
    lines.append(f"  {1e3 * left:8.2f} ms {100 * left / step:5.1f}%  outside of PyTorch's operations")
    return "\n".join(lines)
