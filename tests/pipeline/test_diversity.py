import numpy as np

from bowerbird.pipeline.candidates import merge_channels
from bowerbird.pipeline.diversity import pick_diverse
from bowerbird.recall.popular import Ranked


def test_at_most_the_limit_of_one_value_and_the_unknown_is_not_capped() -> None:
    attributes = [5, 5, 5, 0, 0, 0, 6]
    picked, skipped = pick_diverse(range(7), attributes, limit=2, count=6)
    assert picked == [0, 1, 3, 4, 5, 6]
    assert skipped == [2]


def test_picking_stops_when_there_are_enough() -> None:
    assert pick_diverse([3, 2, 1, 0], [1, 2, 3, 4], 1, 2) == ([3, 2], [])


def test_channels_take_turns_and_an_item_keeps_all_its_channels() -> None:
    def ranked(*keys: int) -> Ranked:
        return Ranked(np.array(keys, np.uint64), np.ones(len(keys), np.float32))

    merged = merge_channels({"a": ranked(1, 2, 3), "b": ranked(2, 9)})
    assert merged.keys.tolist() == [1, 2, 9, 3]
    assert merged.channels == [["a"], ["b", "a"], ["b"], ["a"]]
    kept = merged.keep(np.array([True, False, True, False]))
    assert kept.channels == [["a"], ["b"]]
