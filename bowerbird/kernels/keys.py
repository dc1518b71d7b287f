"""64-bit keys of texts, integers and crosses: one definition for training, serving and every client.

``key_integer`` is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over the value plus its
golden-ratio increment; ``key_text`` folds 8-byte words through it. No key is 0, which means missing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird import _native

Keys = npt.NDArray[np.uint64]
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TEXT_SEED = 0x2545F4914F6CDD1D
_CROSS_SEED = 0x5851F42D4C957F2D


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _not_missing(key: int) -> int:
    return key or 1


def key_integer(value: int) -> int:
    """Return the key of a signed 64-bit integer; flags are 0 and 1."""
    return _not_missing(_mix(value & _MASK))


def key_text(value: str) -> int:
    """Return the key of a text's UTF-8 bytes."""
    data = value.encode()
    state = _mix(_TEXT_SEED ^ len(data))
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8], "little")
        state = _mix(state ^ word)
    return _not_missing(state)


def key_cross(keys: list[int]) -> int:
    """Return the key of an ordered combination of keys; missing parts take part as 0."""
    state = _CROSS_SEED
    for key in keys:
        state = _mix(state ^ key)
    return _not_missing(state)


def keys_of_integers(values: npt.NDArray[np.int64]) -> Keys:
    """Return uint64 [n] keys of int64 [n] values."""
    return _native.keys_of_integers(np.ascontiguousarray(values, dtype=np.int64))


def keys_of_texts(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Keys:
    """Return uint64 [n] keys of n texts: bytes end to end, text i is ``[offsets[i]:offsets[i + 1]]``."""
    return _native.keys_of_texts(data, offsets)
