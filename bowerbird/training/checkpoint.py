"""Checkpoints: everything that the next step depends on, in one file that appears whole; the last two are kept."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import torch
from torch.optim import Optimizer

from bowerbird.bundles.arrays import AnyArray, read_arrays, write_arrays
from bowerbird.durable import new_file, storage_errors
from bowerbird.errors import CorruptionError

CHECKPOINT_FILE = "checkpoint.safetensors"
PREVIOUS_FILE = "checkpoint.previous.safetensors"
_STATE = "state.json"
_SUM = "crc32"
_SUM_BYTES = 4
_CHUNK = 1 << 22
_REMEDY = "Delete it to train from the beginning."


class LoopState(msgspec.Struct):
    """Where the loop stands: steps done, the loss since the last evaluation, early stopping's memory.

    ``plateaus`` counts evaluations without progress; ``precision`` is the arithmetic that was chosen and
    ``fingerprint`` names what was being trained.
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
    warning: str = ""
    """What a user should hear of how it was loaded."""


class _Summing:
    """A file that is written, with the CRC-32 of what went into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = 0

    def write(self, data: bytes | memoryview) -> int:
        self.sum = zlib.crc32(data, self.sum)
        return self._file.write(data)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Add the folder's latest checkpoint, durably, and keep the one before; raises StorageError.

    Arrays go straight from their memory to the file. The last array holds the CRC-32 of the file with zeros in its
    place.
    """
    arrays = {f"{group}/{name}": value for group, values in checkpoint.groups.items() for name, value in values.items()}
    arrays["random"] = torch.get_rng_state().numpy()
    arrays[_STATE] = np.frombuffer(msgspec.json.encode(checkpoint.state), np.uint8)
    arrays[_SUM] = np.zeros(1, np.uint32)
    latest = folder / CHECKPOINT_FILE
    with new_file(latest) as file:
        summing = _Summing(file)
        write_arrays(summing, arrays)
        file.seek(-_SUM_BYTES, os.SEEK_END)
        file.write(np.array([summing.sum], np.uint32).tobytes())
        file.flush()
        os.fsync(file.fileno())
        with storage_errors(latest):
            if latest.exists():
                latest.replace(folder / PREVIOUS_FILE)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the folder's latest whole checkpoint and restore the random state; None without any.

    Its arrays are mapped from the file, copied where they are written to. Where the latest one is damaged the one
    before is returned, with a ``warning``; raises CorruptionError when that one is damaged or absent too.
    """
    damage: CorruptionError | None = None
    for file in (folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE):
        if not file.is_file():
            continue
        try:
            checkpoint = _load(file)
        except CorruptionError as error:
            damage = damage or error
            continue
        if damage is not None:
            checkpoint.warning = f"{damage.what} Going on from the checkpoint before, of step {checkpoint.state.step}."
        return checkpoint
    if damage is not None:
        raise damage
    return None


def _load(file: Path) -> Checkpoint:
    _check_sum(file)
    arrays = read_arrays(file)
    try:
        state = msgspec.json.decode(arrays.pop(_STATE).tobytes(), type=LoopState)
        torch.set_rng_state(torch.from_numpy(np.array(arrays.pop("random"))))
        del arrays[_SUM]
    except (KeyError, msgspec.MsgspecError, RuntimeError, TypeError) as error:
        raise CorruptionError(f"{file} is damaged: {error}.", _REMEDY) from error
    checkpoint = Checkpoint(state)
    for name, value in arrays.items():
        group, _, key = name.partition("/")
        checkpoint.groups.setdefault(group, {})[key] = value
    return checkpoint


def _check_sum(file: Path) -> None:
    found = 0
    with storage_errors(file), file.open("rb") as stream:
        left = max(0, os.fstat(stream.fileno()).st_size - _SUM_BYTES)
        while left:
            data = stream.read(min(left, _CHUNK))
            found = zlib.crc32(data, found)
            left -= len(data)
        stored = stream.read()
    found = zlib.crc32(bytes(_SUM_BYTES), found)
    if stored != np.array([found], np.uint32).tobytes():
        raise CorruptionError(f"{file} is damaged: its checksum is not that of its content.", _REMEDY)


def optimiser_arrays(optimiser: Optimizer) -> dict[str, AnyArray]:
    """Return an optimiser's state by ``<parameter>.<name>``, memory shared; a plain number becomes [1]."""
    arrays: dict[str, AnyArray] = {}
    for parameter, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor([float(value)])
            arrays[f"{parameter}.{name}"] = tensor.numpy()
    return arrays


def load_optimiser(optimiser: Optimizer, arrays: dict[str, AnyArray]) -> None:
    """Restore an optimiser's state."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        parameter, _, key = name.partition(".")
        state.setdefault(int(parameter), {})[key] = torch.from_numpy(np.array(value))
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
