"""Half-precision numbers, initial values and rounding of embedding tables; the twin of native/src/table/numbers.hpp."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bowerbird.kernels.table_config import Precision

Floats: TypeAlias = npt.NDArray[np.float32]
Words: TypeAlias = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
_COIN_UNIT = float(1 << 24) * float(np.sqrt(16.0 + 1.0 / 6.0))


def mix(values: Words) -> Words:
    """Return SplitMix64's finaliser of uint64 values plus its increment, as native/src/base/keys.hpp."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def mix_one(value: int) -> int:
    """Return ``mix`` of one number."""
    return int(mix(np.array([value & MASK], np.uint64))[0])


def stream_of(seed: int, key: int) -> int:
    """Return the random stream of a key."""
    return mix_one(seed ^ mix_one(key))


def _words(stream: int, count: int) -> Words:
    return mix(np.arange(count, dtype=np.uint64) + np.uint64(stream & MASK))


def chances(stream: int, count: int) -> npt.NDArray[np.uint32]:
    """Return 32 random bits for each of a stream's first positions, uint32 [count]."""
    return (_words(stream, count) >> np.uint64(32)).astype(np.uint32)


def chance(stream: int, position: int) -> int:
    """Return the 32 random bits of one position of a stream."""
    return mix_one(stream + position) >> 32


def draw(stream: int, deviation: float, count: int) -> Floats:
    """Return nearly normal numbers, float32 [count]: heads of 64 coins, spread by two uniform numbers.

    The distribution function is within 0.001 of the normal one with this standard deviation.
    """
    coins = _words(stream, count)
    spread = (coins * np.uint64(0xD6E8FEB86659FD93)) >> np.uint64(16)
    low = np.uint64(0xFFFFFF)
    between = ((spread & low) + ((spread >> np.uint64(24)) & low)).astype(np.int64) - 0xFFFFFF
    heads = np.bitwise_count(coins).astype(np.int64) - 32
    factor = np.float32(float(np.float32(deviation)) / _COIN_UNIT)
    drawn: Floats = (heads * 0x1000000 + between).astype(np.int32).astype(np.float32) * factor
    return drawn


def rounded(values: Floats, precision: Precision, stream: int | None) -> Floats:
    """Return float32 values as a precision holds them: to the nearest, or up or down by a stream's chances."""
    if precision == "float32":
        return values
    nearest = _bfloat16(values) if precision == "bfloat16" else _float16(values)
    if stream is None:
        return nearest
    drawn = chances(stream, len(values))
    bits = values.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    if precision == "bfloat16":
        plain = (bits & np.uint32(0x7F800000)) == 0x7F800000
        moved = (bits + (drawn & np.uint32(0xFFFF))) & np.uint32(0xFFFF0000)
    else:
        plain = (size < 0x38800000) | (size >= 0x477FE000)
        moved = (bits & np.uint32(0x80000000)) | ((size + (drawn & np.uint32(0x1FFF))) & np.uint32(0xFFFFE000))
    return np.where(plain, nearest, moved.view(np.float32))


def _bfloat16(values: Floats) -> Floats:
    bits = values.view(np.uint32).astype(np.uint64)
    up = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return np.where(np.isnan(values), values, up.astype(np.uint32).view(np.float32))


def _float16(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)
