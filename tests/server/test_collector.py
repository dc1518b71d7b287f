"""What was imported is no longer looked through, and what goes afterwards is still found."""

import gc
import weakref

from bowerbird.server.processes.collector import pass_over_imports


class _Cycle:
    def __init__(self):
        self.itself = self


def test_later_cycles_are_collected():
    pass_over_imports()
    try:
        assert gc.get_freeze_count() > 0
        gone = weakref.ref(_Cycle())
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
