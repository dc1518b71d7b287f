import random

import numpy as np
import pytest

from bowerbird.kernels.keys import key_text
from bowerbird.serving import known_ids
from bowerbird.serving.known_ids import KnownIds


def test_imported_and_live_ids_are_known_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_ids, "_RECENT", 50)
    monkeypatch.setattr(known_ids, "_LARGEST", 400)
    known, chance, there = KnownIds(), random.Random(0), set()
    imported = [f"i{number}" for number in range(1_000)]
    known.add_imported("click", np.array([key_text(each) for each in imported], np.uint64))
    known.add_imported("order", np.empty(0, np.uint64))
    there |= {("click", each) for each in imported}
    for _ in range(60):
        new = [(chance.choice(["click", "order"]), f"l{chance.randrange(10_000)}") for _ in range(chance.randrange(40))]
        known.add(new)
        there |= set(new)
        asked = [(chance.choice(["click", "order", "view"]), f"{chance.choice('il')}{chance.randrange(3_000)}")
                 for _ in range(200)]  # fmt: skip
        assert known.hold(asked).tolist() == [each in there for each in asked]
    assert known.hold([]).tolist() == [] and known.hold([("click", "")]).tolist() == [False]


def test_a_million_ids_take_about_eight_bytes_each() -> None:
    known = KnownIds()
    for start in range(0, 1_000_000, 5_000):
        known.add(("click", f"event-{number}") for number in range(start, start + 5_000))
    assert known.bytes < 14_000_000
    assert known.hold([("click", f"event-{number}") for number in range(0, 1_000_000, 997)]).all()
    assert not known.hold([("click", f"event-{number}") for number in range(1_000_000, 1_010_000)]).any()
