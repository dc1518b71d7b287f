import contextlib
import threading
import time

import pytest

from bowerbird.prefetch import prefetched


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "bowerbird-prefetch"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_items_come_in_order(ahead):
    assert list(prefetched(range(50), ahead)) == list(range(50))
    assert list(prefetched([], ahead)) == []
    assert workers() == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_than_so_many_are_made_ahead(ahead):
    made = []

    def items():
        for item in range(20):
            made.append(item)
            yield item

    with contextlib.closing(prefetched(items(), ahead)) as items_ahead:
        for item in items_ahead:
            time.sleep(0.01)
            assert len(made) <= item + 1 + ahead
            if item == 10:
                assert len(made) == item + 1 + ahead


def test_an_error_reaches_the_consumer_with_its_traceback():
    def items():
        yield 1
        raise ValueError("broken")

    taken = []
    with pytest.raises(ValueError, match="broken") as raised:
        for item in prefetched(items(), 2):
            taken.append(item)
    assert taken == [1]
    assert "items" in [entry.name for entry in raised.traceback]
    assert workers() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_leaving_early_closes_the_iterator_and_ends_the_thread(error):
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    with pytest.raises(error), contextlib.closing(prefetched(items(), 2)) as ahead:
        for item in ahead:
            if item == 3:
                raise error
    assert closed == ["bowerbird-prefetch"]
    assert workers() == []


def test_nothing_starts_before_the_first_item_is_asked_for():
    prefetched(range(5), 2).close()
    assert workers() == []


def test_work_overlaps():
    def items():
        for item in range(10):
            time.sleep(0.02)
            yield item

    started = time.perf_counter()
    for _ in prefetched(items(), 1):
        time.sleep(0.02)
    assert time.perf_counter() - started < 0.36
