"""What the columns of a log look like: the observations that a first schema is guessed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import Timestamp
from bowerbird.errors import InputError
from bowerbird.log.rows.coerce import coerce, to_mask
from bowerbird.log.rows.faults import EARLIEST
from bowerbird.log.rows.timestamps import UNITS, parse_times
from bowerbird.log.sources.formats import open_reader
from bowerbird.log.sources.readers import RawBatch

_SAMPLE_ROWS = 200_000
_LATEST = 4_102_444_800_000_000
"""2100-01-01 in microseconds: what lies after it is no time in that unit."""


@dataclass(frozen=True)
class Profile:
    """A column: its likely type, how many distinct and missing values it has, and whether all are 0 or 1."""

    name: str
    values: pa.Array
    kind: ColumnType
    distinct: int
    missing: int
    is_flag: bool

    @property
    def rows(self) -> int:
        """Return how many rows were looked at."""
        return len(self.values)

    @property
    def is_constant(self) -> bool:
        """Return whether there is at most one value."""
        return self.distinct <= 1

    @property
    def share_true(self) -> float:
        """Return the share of rows in which a flag is 1."""
        flags = to_mask(coerce(self.values, ColumnType.FLAG).values)
        return float(flags.mean()) if len(flags) else 0.0

    def time(self) -> Timestamp | None:
        """Return how the column writes times, or None where it does not."""
        for unit in ("text", *UNITS):
            spec = Timestamp(self.name, unit)
            if self._reads_as(spec):
                return spec
        return None

    @property
    def is_nested(self) -> bool:
        """Whether the values are lists or structures."""
        return bool(pa.types.is_nested(self.values.type))

    def _reads_as(self, spec: Timestamp) -> bool:
        if spec.unit == "text" and self.kind is not ColumnType.TEXT:
            return False
        parsed = parse_times(self.values, spec)
        sane = ~parsed.bad & (parsed.times > EARLIEST) & (parsed.times < _LATEST)
        return bool(sane.mean() > 0.95) if len(sane) else False

    def depends_on(self, other: Profile) -> bool:
        """Return whether the value is the same in all rows of one value of ``other``, seen often enough."""
        pairs = pa.table({"key": other.values, "value": self.values}).group_by("key")
        counted = pairs.aggregate([("value", "count_distinct"), ("value", "count")])
        repeated = counted.filter(pc.greater(counted.column("value_count"), 1))
        if repeated.num_rows < 10:
            return False
        return bool(pc.max(repeated.column("value_count_distinct")).as_py() == 1)


def profile_file(path: Path) -> list[Profile]:
    """Return the profiles of a file's columns from its first rows; raises InputError where there is none."""
    reader = open_reader(path)
    names = reader.columns()
    batches, rows = [], 0
    for item in reader.batches(names):
        if isinstance(item, RawBatch):
            batches.append(item.rows)
            rows += item.rows.num_rows
        if rows >= _SAMPLE_ROWS:
            break
    if not rows:
        raise InputError(f"{path} has no rows to infer from.", "Give a Parquet, CSV or JSON-lines file with a header.")
    return [_profile(name, [batch.column(at) for batch in batches]) for at, name in enumerate(names)]


def _profile(name: str, chunks: Sequence[pa.Array]) -> Profile:
    common = chunks[0].type if len({chunk.type for chunk in chunks}) == 1 else pa.string()
    values = pa.concat_arrays([chunk.cast(common) for chunk in chunks])
    if pa.types.is_string(common):
        values = pc.if_else(pc.equal(values, ""), None, values)
    if pa.types.is_nested(common):
        return Profile(name, values, ColumnType.TEXT, len(values), values.null_count, False)
    kind, is_flag = _kind(values)
    return Profile(name, values, kind, pc.count_distinct(values).as_py(), values.null_count, is_flag)


def _kind(values: pa.Array) -> tuple[ColumnType, bool]:
    is_flag = not coerce(values, ColumnType.FLAG).faults and values.null_count < len(values)
    if _is_padded(values):
        return ColumnType.TEXT, False
    for kind in (ColumnType.INTEGER, ColumnType.FLAG, ColumnType.NUMBER):
        if not coerce(values, kind).faults:
            return kind, is_flag
    return ColumnType.TEXT, False


def _is_padded(values: pa.Array) -> bool:
    """Return whether texts of digits begin with zeros, which a number would lose."""
    return pa.types.is_string(values.type) and bool(
        to_mask(pc.match_substring_regex(values.view(pa.binary()), "^-?0[0-9]")).any()
    )
