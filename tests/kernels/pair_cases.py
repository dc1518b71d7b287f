"""Random pair programs: one step each, over random inputs, for the native engine and its twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from bowerbird.kernels.pair import StoredRows

PROCESSORS = ("generic", "avx2", "avx512", "avx512_bf16", "amx")
ISAS = (*PROCESSORS, "amx_emulated")
SIMPLE = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "softplus", "neg", "abs", "square", "exp")
WITH_FIELDS: tuple[dict[str, Any], ...] = (
    {"op": "leaky_relu", "slope": 0.1},
    {"op": "elu", "alpha": 0.7},
    {"op": "clamp", "min": -0.5, "max": 0.25},
    {"op": "prelu", "slope": "slope"},
    {"op": "dice", "alpha": "slope", "mean": "mean", "variance": "variance", "eps": 1e-6},
    {"op": "scale_shift", "scale": "slope", "shift": "mean"},
)
ACTIVATIONS: tuple[Any, ...] = (None, *SIMPLE, *WITH_FIELDS)


class Case:
    """A program with weights and inputs, built up step by step from a random source."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = np.random.default_rng(seed)
        self.count = count
        self.spec: dict[str, Any] = {"inputs": [], "steps": [], "outputs": []}
        self.weights: dict[str, np.ndarray] = {}
        self.request: dict[str, np.ndarray] = {}
        self.items: dict[str, Any] = {}

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def item(self, name: str, width: int, stored: str | None = None) -> str:
        self.spec["inputs"].append({"name": name, "stage": "item", "width": width})
        if stored is None:
            self.items[name] = self.normal(self.count, width)
        else:
            rows = int(self.random.integers(1, 40))
            places = self.random.integers(0, rows, self.count).astype(np.int64)
            self.items[name] = StoredRows.pack(self.normal(rows, width), stored), places
        return name

    def row(self, name: str, width: int) -> str:
        self.spec["inputs"].append({"name": name, "stage": "request", "width": width})
        self.request[name] = self.normal(width)
        return name

    def sequence(self, name: str, length: int, width: int) -> str:
        self.spec["inputs"].append({"name": name, "stage": "request", "width": width, "length": True})
        self.request[name] = self.normal(length, width)
        return name

    def mask(self, length: int) -> str:
        self.sequence("mask", length, 1)
        self.request["mask"] = self.random.integers(0, 2, (length, 1)).astype(np.float32)
        return "mask"

    def weight(self, name: str, *shape: int) -> str:
        self.weights[name] = self.normal(*shape) / np.float32(np.sqrt(shape[-1]))
        return name

    def activation(self, number: int, width: int) -> Any:
        """Choose an activation of ``width`` columns and make its parameters."""
        self.weights["slope"] = self.random.uniform(0.1, 0.5, width).astype(np.float32)
        self.weights["mean"] = self.normal(width)
        self.weights["variance"] = self.random.uniform(0.5, 2, width).astype(np.float32)
        return ACTIVATIONS[number % len(ACTIVATIONS)]

    def step(self, op: str, out: str, inputs: list[str], **fields: Any) -> str:
        self.spec["steps"].append({"op": op, "out": out, "in": inputs, **fields})
        return out

    def linear(self, out: str, inputs: list[str], width: int, **fields: Any) -> str:
        """Add a layer with weights of its own."""
        widths = {each["name"]: each["width"] for each in self.spec["inputs"]}
        widths |= {each["out"]: each["width"] for each in self.spec["steps"] if "width" in each}
        weight = self.weight(f"{out}.weight", width, sum(widths[name] for name in inputs))
        bias = self.weight(f"{out}.bias", width)
        return self.step("linear", out, inputs, weight=weight, bias=bias, width=width, **fields)

    def answers(self, engine: Any, precision: str = "fp32", threads: int = 1) -> dict[str, np.ndarray]:
        program = engine(self.spec, self.weights, precision=precision, threads=threads)
        return program.run(self.request, self.items, self.count)
