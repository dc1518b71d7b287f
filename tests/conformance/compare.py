"""How two engines' answers are compared, and how logs are cut."""

from __future__ import annotations

import numpy as np

from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Plan

START = 1_700_000_000_000_000
MINUTE = 60_000_000


def assert_equal(left: FeatureBlock, right: FeatureBlock) -> None:
    """Every value of two blocks is the same, bit for bit."""
    assert left.lsn == right.lsn
    for kind in ("categories", "numbers", "vectors"):
        ours, twin = getattr(left, kind), getattr(right, kind)
        assert ours.keys() == twin.keys()
        for name in ours:
            assert ours[name].dtype == twin[name].dtype, name
            np.testing.assert_array_equal(ours[name], twin[name], err_msg=name)
    assert left.sequences.keys() == right.sequences.keys()
    for name, ours in left.sequences.items():
        twin = right.sequences[name]
        np.testing.assert_array_equal(ours.offsets, twin.offsets, err_msg=name)
        np.testing.assert_array_equal(ours.age, twin.age, err_msg=name)
        for field in twin.fields:
            assert ours.fields[field].dtype == twin.fields[field].dtype
            np.testing.assert_array_equal(ours.fields[field], twin.fields[field], err_msg=f"{name}.{field}")


def reads_of(batch: RecordBatch, plan: Plan) -> ReadBatch:
    """One read before each exposure record, as it asks."""
    at = np.array([*np.flatnonzero(batch.types == plan.type_index("exposure"))], dtype=np.int64)
    return ReadBatch(at, batch.times[at], np.ascontiguousarray(batch.slots[:, at]))


def part(batch: RecordBatch, first: int, last: int) -> RecordBatch:
    """The records from ``first`` up to ``last``."""
    vectors = {}
    for slot, (rows, values) in batch.vectors.items():
        inside = (rows >= first) & (rows < last)
        vectors[slot] = (rows[inside] - first, values[inside])
    slots = np.ascontiguousarray(batch.slots[:, first:last])
    return RecordBatch(batch.types[first:last], batch.times[first:last], slots, vectors)
