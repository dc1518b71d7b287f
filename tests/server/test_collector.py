"""What was imported or loaded is no longer looked through, and what goes afterwards is still found."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from bowerbird.serving import collector
from bowerbird.serving.collector import no_collection, pass_over_imports


class _Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def passed_over() -> Iterator[None]:
    pass_over_imports()
    yield
    gc.unfreeze()
    collector._PASSES_OVER.clear()


@pytest.mark.usefixtures("passed_over")
def test_later_cycles_are_collected():
    assert gc.get_freeze_count() > 0
    gone = weakref.ref(_Cycle())
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("passed_over")
def test_what_is_loaded_is_passed_over_and_freed_without_the_collector():
    with no_collection():
        assert not gc.isenabled()
        loaded = [set() for _ in range(1000)]
    assert gc.isenabled()
    assert not any(each is loaded for each in gc.get_objects())
    gone = weakref.ref(loaded[0])
    del loaded
    assert gone() is None


@pytest.mark.usefixtures("passed_over")
def test_garbage_is_not_passed_over():
    with no_collection():
        gone = weakref.ref(_Cycle())
        assert gone() is not None
    assert gone() is None


def test_a_process_that_passes_over_nothing_keeps_its_objects():
    with no_collection():
        made = [set()]
    assert any(each is made for each in gc.get_objects())


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
