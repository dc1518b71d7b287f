"""Rows that stand ready per item, in fewer bits than float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bowerbird.errors import InputError

Values = npt.NDArray[np.float32]
RowFormat = Literal["fp32", "fp16", "bf16", "int8"]
_TYPES: dict[str, npt.DTypeLike] = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16, "int8": np.int8}


def to_bfloat16(values: Values) -> npt.NDArray[np.uint16]:
    """Return the upper halves of float32 values, rounded to the nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bfloat16(halves: npt.NDArray[np.uint16]) -> Values:
    """Return float32 values whose upper halves are given."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True)
class StoredRows:
    """A matrix [rows, width] as it is kept: float32, float16, bfloat16 (uint16) or int8 with a float32 scale a row."""

    format: RowFormat
    values: npt.NDArray[Any]
    scales: Values | None = None

    def __post_init__(self) -> None:
        if self.format not in _TYPES:
            raise InputError(f"Rows of format {self.format!r} are not known.", f"Use one of {', '.join(_TYPES)}.")
        if self.values.ndim != 2 or self.values.dtype != _TYPES[self.format] or not self.values.flags.c_contiguous:
            raise InputError(
                f"Rows of format {self.format} are {self.values.dtype} {self.values.shape}.",
                f"Give a contiguous matrix of {np.dtype(_TYPES[self.format])}.",
            )
        if (self.scales is not None) != (self.format == "int8"):
            raise InputError(f"Rows of format {self.format} and scales do not go together.", "Only int8 has scales.")
        if self.scales is not None and (self.scales.shape != self.values.shape[:1] or self.scales.dtype != np.float32):
            raise InputError(f"Scales are {self.scales.dtype} {self.scales.shape}.", "Give one float32 a row.")

    @classmethod
    def pack(cls, matrix: Values, format: RowFormat) -> StoredRows:
        """Store a float32 matrix [rows, width]; int8 rows are scaled so that the greatest magnitude is 127."""
        matrix = np.ascontiguousarray(matrix, np.float32)
        if format == "int8":
            greatest = np.abs(matrix).max(axis=1, initial=0.0)
            scales = np.where(greatest > 0, greatest / np.float32(127), np.float32(1)).astype(np.float32)
            return cls(format, np.rint(matrix / scales[:, None]).astype(np.int8), scales)
        return cls(format, to_bfloat16(matrix) if format == "bf16" else matrix.astype(_TYPES[format]))

    def unpacked(self, rows: npt.NDArray[np.int64]) -> Values:
        """Return the given rows as float32 [len(rows), width]."""
        taken = self.values[rows]
        if self.format == "bf16":
            return from_bfloat16(taken)
        if self.scales is not None:
            return taken.astype(np.float32) * self.scales[rows][:, None]
        return taken.astype(np.float32)
