"""Why rows of a source are rejected: one reason a row, with the column and what was expected of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

MISSING_KEY = "missing key"
WRONG_TYPE = "wrong type"
NOT_FINITE = "not finite"
WRONG_WIDTH = "wrong width"
BAD_TIME = "bad time"
TOO_OLD = "time before 1990"
FUTURE = "event from the future"
EARLY = "available before it happened"
LATE = "later than declared"
NOTHING_TO_RETRACT = "nothing to take back"
UNREADABLE_LINE = "unreadable line"
UNREADABLE_FILE = "unreadable file"
TRUNCATED_FILE = "truncated file"
EMPTY_FILE = "empty file"
UNBALANCED_QUOTE = "unbalanced quote"

EARLIEST = 631_152_000_000_000
"""1990-01-01 UTC in microseconds: an earlier time is a wrong unit or a default."""


class Faults:
    """The first fault of each of ``rows`` rows of a batch."""

    def __init__(self, rows: int) -> None:
        self._codes: npt.NDArray[np.int16] = np.zeros(rows, dtype=np.int16)
        self._kinds: list[tuple[str, str, str]] = [("", "", "")]

    def add(self, rows: Mask, reason: str, column: str, expected: str) -> None:
        """Record the fault for the rows of a bool [rows] mask that have none yet."""
        fresh = rows & (self._codes == 0)
        if fresh.any():
            self._codes[fresh] = len(self._kinds)
            self._kinds.append((reason, column, expected))

    @property
    def accepted(self) -> Mask:
        """Rows without a fault, bool [rows]."""
        mask: Mask = self._codes == 0
        return mask

    @property
    def rejected(self) -> npt.NDArray[np.int64]:
        """Row numbers with a fault, ascending."""
        return np.flatnonzero(self._codes)

    def describe(self, row: int, value: dict[str, Any]) -> tuple[str, str]:
        """Return a faulty row's reason and its detail, given the raw row."""
        reason, column, expected = self._kinds[self._codes[row]]
        return reason, f"{column} = {value.get(column)!r}: {expected}"
