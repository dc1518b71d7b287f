"""Long random logs of the second shop: enough events a key that arrays grow, rings turn and tops overflow."""

from __future__ import annotations

import random

from tests.conformance.compare import START
from tests.conformance.logs import LATE, STEPS, Record

USERS = [1, 1, 1, 2, 3, None]
ITEMS = ["a", "b", "c", "d", "e"]
TEXTS = [None, "red", "blue", "green", "x", "y", "z", ""]
NUMBERS = [None, 0.0, 1.0, 2.5, -3.25, 1e6, 1e12, -1e15, 1e-9, float("nan")]
KINDS = ["click"] * 6 + ["order"] * 4 + ["exposure"] * 2 + ["items", "items", "users", "brands", "unknown"]


def long_log(seed: int, size: int) -> list[Record]:
    """Records in log order, some late, some taking an earlier one back."""
    chance, time = random.Random(seed), START
    steps = [*STEPS[: chance.randint(3, len(STEPS))], 1_000_000]
    log: list[Record] = []
    for _ in range(size):
        time += chance.choice(steps)
        events = [record for record in log[-60:] if record["_type"] in ("click", "order") and "_retracts" not in record]
        if events and chance.random() < 0.1:
            log.append(chance.choice(events) | {"_retracts": True})
            continue
        late = chance.choice(LATE) if chance.random() < 0.2 else 0
        kind = chance.choice(KINDS)
        log.append({"_type": kind, "_time": time + late, **_values(kind, chance)})
    return log


def _values(kind: str, chance: random.Random) -> Record:
    number = chance.choice([*NUMBERS, chance.uniform(-100, 100), chance.uniform(-100, 100)])
    text = chance.choice(TEXTS)
    who: Record = {"user": chance.choice(USERS), "item": chance.choice(ITEMS)}
    match kind:
        case "exposure":
            return {**who, "user": who["user"] or 1, "page": chance.randint(0, 2), "position": number}
        case "click":
            return {**who, "page": chance.randint(0, 2)}
        case "order":
            return {**who, "amount": number, "coupon": text}
        case "items":
            vector = None if chance.random() < 0.3 else [chance.uniform(-1, 1) for _ in range(3)]
            values = {"brand": chance.choice(TEXTS), "colour": text, "price": number, "embedding": vector}
            return {"item": who["item"], **values}
        case "users":
            return {"user": who["user"], "city": text, "taste": [chance.random(), 0.0]}
        case "brands":
            return {"brand": chance.choice(TEXTS), "country": text, "look": [chance.random(), 1.0]}
        case _:
            return {}
