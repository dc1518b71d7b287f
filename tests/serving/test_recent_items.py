"""The items of the last requests, each once, the last ones first; a version that takes over finds them made."""

import numpy as np

from bowerbird.serving.recent_items import RecentItems


def _keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_before_a_request_there_are_none():
    assert RecentItems().keys().tolist() == []


def test_each_item_once_and_the_last_request_first():
    recent = RecentItems()
    recent.saw(_keys(1, 2, 3), 10)
    recent.saw(_keys(4, 2), 20)
    assert recent.keys().tolist() == [4, 2, 1, 3]
    assert recent.time == 20


def test_old_requests_and_too_many_items_are_left_out():
    recent = RecentItems()
    for number in range(300):
        recent.saw(_keys(*range(1000 * number, 1000 * number + 100)), number)
    keys = recent.keys()
    assert len(keys) == 16_384
    assert keys[0] == 299_000
    for number in range(256):
        recent.saw(_keys(number), 1_000)
    assert set(recent.keys()) == set(range(256))
