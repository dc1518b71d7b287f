"""How two engines' answers are compared, and how logs are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.plan.batch import ReadBatch, RecordBatch
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Plan

START = 1_700_000_000_000_000
MINUTE = 60_000_000


def assert_equal(left: FeatureBlock, right: FeatureBlock) -> None:
    """Every value of two blocks is the same: the sign of a zero too, and any NaN is one."""
    assert left.lsn == right.lsn
    for kind in ("categories", "numbers", "vectors"):
        ours, twin = getattr(left, kind), getattr(right, kind)
        assert ours.keys() == twin.keys()
        for name in ours:
            _assert_same(ours[name], twin[name], name)
    assert left.sequences.keys() == right.sequences.keys()
    for name, ours in left.sequences.items():
        twin = right.sequences[name]
        _assert_same(ours.offsets, twin.offsets, name)
        _assert_same(ours.age, twin.age, f"{name}.age")
        assert ours.fields.keys() == twin.fields.keys()
        for field in twin.fields:
            _assert_same(ours.fields[field], twin.fields[field], f"{name}.{field}")


def _assert_same(ours: npt.NDArray[Any], twin: npt.NDArray[Any], name: str) -> None:
    assert ours.dtype == twin.dtype, name
    np.testing.assert_array_equal(ours, twin, err_msg=name)
    if ours.dtype.kind == "f":
        known = ~np.isnan(ours)
        np.testing.assert_array_equal(np.signbit(ours[known]), np.signbit(twin[known]), err_msg=f"{name}: sign")


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
