"""Checkpoints: everything that the next step depends on, in one file that appears whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch.optim import Optimizer

from bowerbird.bundles.arrays import AnyArray, read_arrays, write_arrays
from bowerbird.durable import new_file
from bowerbird.errors import CorruptionError

CHECKPOINT_FILE = "checkpoint.safetensors"
_STATE = "state.json"


class LoopState(msgspec.Struct):
    """Where the loop stands: steps done, the loss since the last evaluation, early stopping's memory.

    ``plateaus`` counts evaluations without progress; ``precision`` is the arithmetic that was chosen and ``fingerprint`` names what was being trained.
    """

    fingerprint: str
    precision: str
    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    best: float | None = None
    best_step: int = 0
    unimproved: int = 0
    plateaus: int = 0
    finished: bool = False


@dataclass
class Checkpoint:
    """The loop's state with named groups of arrays (weights, averages, optimisers, best weights)."""

    state: LoopState
    groups: dict[str, dict[str, AnyArray]] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint, durably; raises StorageError."""
    arrays = {f"{group}/{name}": value for group, values in checkpoint.groups.items() for name, value in values.items()}
    arrays["random"] = torch.get_rng_state().numpy()
    arrays[_STATE] = np.frombuffer(msgspec.json.encode(checkpoint.state), np.uint8)
    with new_file(folder / CHECKPOINT_FILE) as file:
        write_arrays(file, arrays)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the folder's checkpoint and restore the random state; None without one.

    Raises CorruptionError when it is damaged.
    """
    file = folder / CHECKPOINT_FILE
    if not file.is_file():
        return None
    arrays = read_arrays(file)
    try:
        state = msgspec.json.decode(arrays.pop(_STATE).tobytes(), type=LoopState)
        torch.set_rng_state(torch.from_numpy(np.array(arrays.pop("random"))))
    except (KeyError, msgspec.MsgspecError, RuntimeError, TypeError) as error:
        raise CorruptionError(f"{file} is damaged: {error}.", "Delete it to train from the beginning.") from error
    checkpoint = Checkpoint(state)
    for name, value in arrays.items():
        group, _, key = name.partition("/")
        checkpoint.groups.setdefault(group, {})[key] = np.array(value)
    return checkpoint


def optimiser_arrays(optimisers: list[Optimizer]) -> dict[str, AnyArray]:
    """Return optimisers' states by ``<optimiser>.<parameter>.<name>``; a plain number becomes [1]."""
    arrays: dict[str, AnyArray] = {}
    for place, optimiser in enumerate(optimisers):
        for parameter, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensor = value if isinstance(value, torch.Tensor) else torch.tensor([float(value)])
                arrays[f"{place}.{parameter}.{name}"] = tensor.numpy().copy()
    return arrays


def load_optimisers(optimisers: list[Optimizer], arrays: dict[str, AnyArray]) -> None:
    """Restore optimisers' states, in the form that each keeps them."""
    states: list[dict[int, dict[str, object]]] = [{} for _ in optimisers]
    for name, value in arrays.items():
        place, parameter, key = name.split(".")
        plain = isinstance(optimisers[int(place)], torch.optim.SparseAdam) and key == "step"
        restored = int(value.item()) if plain else torch.from_numpy(np.array(value))
        states[int(place)].setdefault(int(parameter), {})[key] = restored
    for optimiser, state in zip(optimisers, states, strict=True):
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
