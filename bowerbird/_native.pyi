"""Types of the native extension; native/src/bindings.cpp defines it."""

from typing import Any

import numpy as np
import numpy.typing as npt

_Keys = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int64]

def keys_of_integers(values: _Integers) -> _Keys: ...
def keys_of_texts(data: npt.NDArray[np.uint8], offsets: _Integers) -> _Keys: ...
def column_moments(x: Any, mean: Any, variance: Any, threads: int = 1) -> None: ...
def hidden_forward(x: Any, y: Any, scale: Any, shift: Any, keep: float, seed: int, threads: int = 1) -> None: ...
def hidden_backward(
    x: Any,
    y: Any,
    gradient_y: Any,
    gradient_x: Any,
    mean: Any,
    inverse_deviation: Any,
    weight: Any,
    gradient_weight: Any,
    gradient_bias: Any,
    keep: float,
    threads: int = 1,
) -> None: ...

_Types = npt.NDArray[np.int32]
_Vectors = list[tuple[int, _Integers, npt.NDArray[np.float32]]]

class State:
    def __init__(
        self,
        plan: dict[str, Any],
        plan_json: str = "",
        budget: int = 0,
        path: str = "",
        threads: int = 1,
        versioned: bool = False,
        full: str = "fail",
        part: int = 0,
        parts: int = 1,
    ) -> None: ...
    @staticmethod
    def attach(plan: dict[str, Any], path: str) -> State: ...
    @staticmethod
    def plan_json(path: str) -> str: ...
    @property
    def lsn(self) -> int: ...
    @property
    def restored_to(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def apply(self, types: _Types, times: _Integers, slots: _Keys, vectors: _Vectors) -> None: ...
    def expire(self, time: int) -> int: ...
    def set_budget(self, bytes: int) -> None: ...
    def usage(self) -> dict[str, Any]: ...
    def aggregate_bytes(self) -> list[int]: ...
    def snapshot(self, path: str) -> None: ...
    def restore(self, path: str) -> None: ...

class Program:
    def __init__(self, plan: dict[str, Any], states: list[State]) -> None: ...
    def read(self, time: int, request: _Keys, candidates: _Keys) -> Any: ...
    def replay(
        self,
        types: _Types,
        times: _Integers,
        slots: _Keys,
        vectors: _Vectors,
        positions: _Integers,
        read_times: _Integers,
        read_slots: _Keys,
    ) -> Any: ...
    def replay_part(
        self,
        types: _Types,
        times: _Integers,
        slots: _Keys,
        vectors: _Vectors,
        positions: _Integers,
        read_times: _Integers,
        read_slots: _Keys,
    ) -> Any: ...
    def finish(self, values: _Keys, times: _Integers) -> Any: ...

class KeyIndex:
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def find(self, keys: _Keys) -> _Integers: ...
    def insert(self, keys: _Keys) -> _Integers: ...
