"""What the tests of states share: both shops, a log of many keys, reads of everything, joined partitions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.plan.batch import ReadBatch, RecordBatch, Slots
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine, StateOptions
from bowerbird.plan.parts import join_sequences, join_values
from bowerbird.plan.read import PlanReader
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import FeatureState
from tests import shop, shop_more
from tests.conformance.compare import MINUTE, START, assert_equal, part
from tests.conformance.logs import Record

ASKED = [(user, minutes) for user in (1, 2, 3, 57, 999) for minutes in (-90, -1, 0, 1, 44, 200, 3000, 30_000)]

KINDS = ["click", "order", "exposure", "items", "users", "brands", "back"]
WEIGHTS = [40, 20, 25, 5, 3, 1, 6]


class Reader(Protocol):
    """What reads features."""

    def read(self, time: int, request: Slots, candidates: npt.NDArray[np.uint64]) -> FeatureBlock: ...


@dataclass(frozen=True)
class Shop:
    """A plan and its encoder."""

    plan: Plan
    encoder: Encoder

    @classmethod
    def of(cls, plan: Plan) -> Shop:
        return cls(plan, Encoder(plan))

    def without_vectors(self) -> Shop:
        """The shop less its vectors, which partitions do not join."""
        kept = [feature for feature in self.plan.features if feature.kind != "vector"]
        return Shop.of(msgspec.structs.replace(self.plan, features=kept))

    def look(self, reader: Reader, time: int) -> list[FeatureBlock]:
        """Read some users and every item at times around ``time``."""
        candidates = self.encoder.encode_items(["a", "b", "c", "d", "e", "i7", "i42", "never"])
        request = {user: self.encoder.encode_request(user, {"page": 1, "position": 2.0}) for user, _ in ASKED}
        return [reader.read(time + minutes * MINUTE, request[user], candidates) for user, minutes in ASKED]


SHOPS = {"shop": Shop.of(compile_plan(shop.project)), "more": Shop.of(compile_plan(shop_more.project))}


def wide_log(seed: int, size: int) -> list[Record]:
    """Records in log order of some hundred users and items, a few of them much of it; some late, some taken back."""
    chance, time = random.Random(seed), START
    log: list[Record] = []
    for _ in range(size):
        time += int(chance.expovariate(1 / 20e6)) if chance.random() < 0.99 else 50 * MINUTE
        kind = chance.choices(KINDS, WEIGHTS)[0]
        if kind == "back":
            events = [each for each in log[-50:] if each["_type"] in ("click", "order") and "_retracts" not in each]
            log += [chance.choice(events) | {"_retracts": True}] if events else []
            continue
        late = chance.randrange(90 * MINUTE) if kind in ("click", "order") and chance.random() < 0.2 else 0
        log.append({"_type": kind, "_time": time - late, **_wide_values(kind, chance)})
    return log


def _wide_values(kind: str, chance: random.Random) -> Record:
    text = chance.choice([None, "red", "blue", "green", "x", ""])
    amount = chance.choice([None, float("nan"), chance.uniform(-5, 50), chance.uniform(-5, 50), 1e12])
    item = chance.choice([*"abcde", *(f"i{chance.randrange(80)}" for _ in range(8))])
    who: Record = {"user": int(300 * chance.random() ** 3) + 1, "item": item}
    match kind:
        case "items":
            vector = [chance.uniform(-1, 1) for _ in range(3)]
            return {"item": item, "brand": text, "colour": text, "price": amount, "embedding": vector}
        case "users":
            return {"user": who["user"], "city": text, "member": True, "joined": 3.0, "taste": [chance.random(), 0.0]}
        case "brands":
            return {"brand": text or "x", "country": text, "look": [chance.random(), 1.0]}
        case "order":
            return {**who, "amount": amount, "coupon": text}
        case _:
            return {**who, "page": chance.randrange(3), **({"position": amount} if kind == "exposure" else {})}


def latest(batch: RecordBatch) -> int:
    """The largest time of a log."""
    return max([START, *(int(time) for time in batch.times)])


def assert_all_equal(left: Sequence[FeatureBlock], right: Sequence[FeatureBlock], *, lsn: bool = True) -> None:
    """Every block equals its counterpart; without ``lsn``, at whatever positions they were read."""
    for ours, theirs in zip(left, right, strict=True):
        assert_equal(ours if lsn else replace(ours, lsn=theirs.lsn), theirs)


def applied(plan: Plan, batch: RecordBatch, options: StateOptions | None = None) -> NativeEngine:
    """An engine that has the whole log."""
    engine = NativeEngine(plan, options)
    engine.apply(batch)
    return engine


def applied_in_pieces(state: FeatureState | NativeEngine, batch: RecordBatch, cuts: Sequence[int]) -> None:
    """Apply a log from the state's position on, cut where told."""
    bounds = [state.lsn, *sorted(cut for cut in cuts if state.lsn < cut < len(batch)), len(batch)]
    for first, last in pairwise(bounds):
        state.apply(part(batch, first, last))


def replayed_in_pieces(plan: Plan, batch: RecordBatch, reads: ReadBatch, cuts: Sequence[int]) -> FeatureBlock:
    """Replay a log cut where told; the pieces' rows end to end."""
    engine, blocks = NativeEngine(plan), []
    bounds = [0, *sorted(cut for cut in cuts if 0 < cut < len(batch)), len(batch)]
    done = 0
    for first, last in pairwise(bounds):
        before = last % 2 == 0 or last == len(batch)  # a read at the cut: before it or after it
        end = int(np.searchsorted(reads.positions, last, "right" if before else "left"))
        slots = np.ascontiguousarray(reads.slots[:, done:end])
        now = ReadBatch(reads.positions[done:end], reads.times[done:end], slots)
        blocks.append(engine.replay(part(batch, first, last), now))
        done = end
    return end_to_end(blocks)


def end_to_end(blocks: Sequence[FeatureBlock]) -> FeatureBlock:
    """The rows of several blocks, the position of the last."""
    first = blocks[0]
    joined = FeatureBlock(lsn=blocks[-1].lsn)
    for kind in ("categories", "numbers", "vectors"):
        for name in getattr(first, kind):
            getattr(joined, kind)[name] = np.concatenate([getattr(block, kind)[name] for block in blocks])
    for name in first.sequences:
        rows = [block.sequences[name] for block in blocks]
        lengths = np.concatenate([np.diff(each.offsets) for each in rows])
        fields = {field: np.concatenate([each.fields[field] for each in rows]) for field in rows[0].fields}
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        joined.sequences[name] = Ragged(offsets, fields, np.concatenate([each.age for each in rows]))
    return joined


def replayed_in_parts(plan: Plan, batch: RecordBatch, reads: ReadBatch, parts: int) -> FeatureBlock:
    """Replay each partition of the keys by itself and join what they give."""
    columns = [
        NativeEngine(plan, StateOptions(part=number, parts=parts)).replay_part(batch, reads) for number in range(parts)
    ]
    reader = PlanReader(plan, [FeatureState(plan)])
    block = reader.finish(join_values(columns), reads.times, join_sequences(columns, len(reads)))
    return replace(block, lsn=len(batch))
