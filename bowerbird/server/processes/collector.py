"""Python's collector of cycles beside a server's answers."""

from __future__ import annotations

import gc


def pass_over_imports() -> None:
    """Let the collector leave out all that there is now: modules, which stay as long as the process does.

    A full collection stops every thread, and most of what it would look through is what was imported. To be called
    before models are loaded: what a replaced version leaves behind is to be found.
    """
    gc.collect()
    gc.freeze()
