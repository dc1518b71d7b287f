from pathlib import Path

import numpy as np
import pytest

from bowerbird.errors import CorruptionError
from bowerbird.recall.build import Histories, neighbour_index
from bowerbird.recall.neighbours import NeighbourIndex


def histories(*users: list[tuple[int, float]]) -> Histories:
    rows = [(number, item, age) for number, events in enumerate(users) for item, age in events]
    return Histories(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.uint64),
        np.array([row[2] for row in rows], float),
    )


def test_items_of_one_user_near_each_other_are_neighbours() -> None:
    index = neighbour_index(
        histories([(1, 100.0), (2, 90.0), (3, 10.0)], [(1, 50.0), (2, 40.0)]), window_seconds=20, neighbours=5
    )
    assert index.items.tolist() == [1, 2, 3]
    assert index.offsets.tolist() == [0, 1, 2, 2]
    assert index.neighbours.tolist() == [2, 1]
    np.testing.assert_allclose(index.weights, 1.0)


def test_the_best_neighbours_are_kept() -> None:
    users = [[(1, 3.0), (2, 2.0)]] * 3 + [[(1, 3.0), (3, 2.0)]] * 1 + [[(1, 3.0), (4, 2.0)]] * 2
    index = neighbour_index(histories(*users), 10, neighbours=2)
    assert index.neighbours[index.offsets[0] : index.offsets[1]].tolist() == [2, 4]


def test_later_history_weighs_more_and_strangers_are_ignored() -> None:
    index = neighbour_index(histories([(1, 2.0), (10, 1.0)], [(2, 2.0), (20, 1.0)]), 10, 5)
    keys, weights = index.merge(np.array([1, 99, 2], np.uint64), 0.5, 10)
    assert keys.tolist() == [20, 10]
    np.testing.assert_allclose(weights, [1.0, 0.25])
    assert len(NeighbourIndex.empty().merge(np.array([1], np.uint64), 0.9, 3)[0]) == 0


def test_an_index_is_saved_whole_and_a_changed_byte_is_refused(tmp_path: Path) -> None:
    index = neighbour_index(histories([(1, 2.0), (10, 1.0)]), 10, 5)
    index.save(tmp_path / "1", "home", 7)
    read = NeighbourIndex.load(tmp_path / "1")
    np.testing.assert_array_equal(read.neighbours, index.neighbours)
    file = tmp_path / "1" / "weights.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"weights\.npy"):
        NeighbourIndex.load(tmp_path / "1")
