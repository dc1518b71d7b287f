"""Work that may take its time, loading a version for instance, beside threads that answer."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

_NICENESS = 10


def lower_priority() -> None:
    """Give the calling thread a tenth of what a thread that answers has, where both want the same core.

    Only Linux has priorities of single threads; elsewhere nothing changes.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)


def background_thread() -> ThreadPoolExecutor:
    """Return an executor of one thread of lower priority."""
    return ThreadPoolExecutor(1, "background", lower_priority)
