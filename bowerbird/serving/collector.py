"""Python's collector of cycles beside a server's answers: a full collection stops every thread."""

from __future__ import annotations

import atexit
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PASSES_OVER = threading.Event()


def pass_over_imports() -> None:
    """Let the collector leave out all that there is now: modules, which stay as long as the process does.

    At its end all is looked through again, so that what is bound to native objects lets go of them.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)
    _PASSES_OVER.set()


@contextmanager
def no_collection() -> Iterator[None]:
    """Hold the collector off while a version is loaded, which makes objects by the ten thousand.

    A process that passed over its imports passes over the version, too: a version has no cycles, and is freed all the
    same when the last request lets go of it. What became garbage meanwhile is collected first, a few milliseconds, or
    it would be passed over for good. A collector that was off stays off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _PASSES_OVER.is_set():
            gc.collect()
            gc.freeze()
        if was_on:
            gc.enable()
