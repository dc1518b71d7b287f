"""The items that requests asked for last: what a version is warmed with that takes another one's place."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
_REQUESTS = 256
_ITEMS = 16_384


class RecentItems:
    """Keys of the candidates of a model's last requests; threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[Keys] = deque(maxlen=_REQUESTS)
        self.time = 0
        """When the last of them was answered, in microseconds since 1970."""

    def saw(self, keys: Keys, time: int) -> None:
        """Note a request's candidates, uint64 [candidates]; the array is kept."""
        self._requests.append(keys)
        self.time = time

    def keys(self) -> Keys:
        """Return distinct keys, uint64 [items], those first that were asked for last; empty before a request."""
        requests = list(self._requests)
        if not requests:
            return np.empty(0, np.uint64)
        asked = np.concatenate(requests[::-1])
        _, first = np.unique(asked, return_index=True)
        return asked[np.sort(first)][:_ITEMS]
