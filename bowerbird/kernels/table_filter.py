"""The admission filter of embedding tables, counter for counter as native/src/table/admission.cpp."""

from __future__ import annotations

import math

import numpy as np

from bowerbird.kernels.table_config import Admission
from bowerbird.kernels.table_numbers import MASK, chance, mix_one, stream_of

_MOST = 255
_COUNTERS = 62
_MARGIN = 2.0


class ReferenceFilter:
    """A blocked counting Bloom filter with conservative updates, whose counts halve now and then."""

    def __init__(self, admission: Admission, seed: int) -> None:
        self._admission = admission
        self._salt = mix_one(seed ^ 0xF117E5)
        natural = math.log(1.0 / admission.filter_error)
        self._hashes = min(max(int(natural / math.log(2.0) + 0.5), 1), 8)
        counters = _MARGIN * admission.filter_keys * natural / (math.log(2.0) * math.log(2.0))
        self._counters = np.zeros((int(counters / _COUNTERS) + 1, _COUNTERS), np.uint8)
        self._eras = np.zeros(len(self._counters), np.int64)
        self._era = 0
        self._new_keys = 0

    def admits(self, key: int, times: int, call: int) -> bool:
        """Count a key ``times`` more times; return whether it is to be admitted now."""
        admission = self._admission
        if admission.minimum_count <= 1 and admission.probability >= 1:
            return True
        before = self._count(key, times)
        if before + times < admission.minimum_count:
            return False
        if admission.probability >= 1:
            return True
        stream = stream_of(self._salt, key) + (mix_one(call) if before == _MOST else 0)
        below = int(admission.probability * 2.0**32)
        sights = range(before + 1, before + min(times, _MOST) + 1)
        return any(sight >= admission.minimum_count and chance(stream & MASK, sight) < below for sight in sights)

    def _count(self, key: int, times: int) -> int:
        hashed = mix_one(key ^ self._salt)
        number = ((hashed & 0xFFFFFFFF) * len(self._counters)) >> 32
        line = self._counters[number]
        missed = self._era - self._eras[number]
        line[:] = 0 if missed >= 8 else line >> np.uint8(missed)
        self._eras[number] = self._era
        places = mix_one(hashed)
        chosen = [(((places >> (8 * i)) & 0xFF) * _COUNTERS) >> 8 for i in range(self._hashes)]
        before = int(line[chosen].min())
        now = min(before + times, _MOST)
        line[chosen] = np.maximum(line[chosen], np.uint8(now))
        if before == 0:
            self._new_keys += 1
            if self._new_keys >= self._admission.filter_keys:
                self._new_keys = 0
                self._era += 1
        return before
