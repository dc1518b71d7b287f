"""Times as sources write them, to microseconds since 1970 UTC.

A text without an offset is local time in the declared zone. Where clocks are set back and a local time
happens twice, it is the first of the two; where they are set forward and it never happens, it is the
moment of the change. Nanoseconds are cut to microseconds; floats are rounded to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import Timestamp
from bowerbird.errors import InputError
from bowerbird.log.rows.coerce import coerce, to_mask
from bowerbird.log.rows.faults import Mask

Times = npt.NDArray[np.int64]

UNITS = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
"""Multiplier and divisor that bring a numeric unit to microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = r"[0-9]:[0-9]{2}.*([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ISO = f"^{_DATE}([T ]{_CLOCK}([zZ]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?)?$"
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class ParsedTimes:
    """``times`` int64 [n] microseconds (0 where bad) and a bool [n] mask of missing or unreadable ones."""

    times: Times
    bad: Mask


def parse_times(raw: pa.Array, spec: Timestamp) -> ParsedTimes:
    """Return a raw column's times; raises InputError where the column's type cannot be a ``spec`` at all."""
    if isinstance(raw, pa.ChunkedArray):
        raw = raw.combine_chunks()
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
        return _collect(_localise(raw, spec.timezone) if _is_naive(raw.type) else raw)
    if spec.unit in UNITS:
        return _numeric(raw, *UNITS[spec.unit])
    if spec.unit != "text":
        raise InputError(f"Time column {spec.column!r} has unit {spec.unit!r}.", "Write s, ms, us, ns or text.")
    texts = coerce(raw, ColumnType.TEXT).values
    if pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type):
        raise InputError(
            f"Time column {spec.column!r} holds numbers, and its Timestamp has unit 'text'.",
            f'Write Timestamp({spec.column!r}, unit="s"), or ms, us, ns.',
        )
    return _iso(texts, spec.timezone) if spec.format is None else _formatted(texts, spec.format, spec.timezone)


def zone(name: str) -> tzinfo:
    """Return an IANA time zone; raises InputError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(f"{name!r} is not a time zone.", "Write an IANA name such as 'Europe/Paris'.") from error


def instant(moment: datetime, local: tzinfo) -> int:
    """Return a datetime in microseconds since 1970; without an offset it is local time in ``local``."""
    if moment.tzinfo is None:
        moment = _settle(moment, local)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _settle(moment: datetime, local: tzinfo) -> datetime:
    """Attach a zone: the first of two, and the moment of the change for a local time that never happens."""
    first = moment.replace(tzinfo=local, fold=0)
    if first.astimezone(UTC).astimezone(local).replace(tzinfo=None) == moment:
        return first
    text = pa.array([moment], pa.timestamp("us"))
    settled = pc.assume_timezone(text, str(local), ambiguous="earliest", nonexistent="latest")
    return _EPOCH + timedelta(microseconds=settled.cast(pa.int64())[0].as_py())


def _is_naive(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or kind.tz is None


def _localise(moments: pa.Array, timezone: str) -> pa.Array:
    zone(timezone)
    naive = moments.cast(pa.timestamp("us"), safe=False)
    return pc.assume_timezone(naive, timezone, ambiguous="earliest", nonexistent="latest")


def _collect(moments: pa.Array) -> ParsedTimes:
    micros = moments.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    bad = to_mask(micros.is_null())
    return ParsedTimes(micros.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False), bad)


def _numeric(raw: pa.Array, multiplier: int, divisor: int) -> ParsedTimes:
    whole = coerce(raw, ColumnType.INTEGER)
    if whole.faults or pa.types.is_floating(raw.type):
        return _fractional(raw, multiplier / divisor)
    values = whole.values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    bad = to_mask(whole.values.is_null()) | (np.abs(values) > _LARGEST // multiplier) | (values == -_LARGEST - 1)
    return ParsedTimes(np.where(bad, 0, values) * multiplier // divisor, bad)


def _fractional(raw: pa.Array, factor: float) -> ParsedTimes:
    numbers = coerce(raw, ColumnType.NUMBER).values
    scaled = np.rint(numbers.fill_null(0.0).to_numpy(zero_copy_only=False) * factor)
    bad = to_mask(numbers.is_null()) | (np.abs(scaled) > 2.0**62)
    return ParsedTimes(np.where(bad, 0.0, scaled).astype(np.int64), bad)


def _iso(texts: pa.Array, timezone: str) -> ParsedTimes:
    shaped = pc.if_else(pc.match_substring_regex(texts, _ISO), texts, None)
    absolute = to_mask(pc.match_substring_regex(shaped, _OFFSET))
    try:
        local = _localise(_where(~absolute, shaped).cast(pa.timestamp("us")), timezone)
        fixed = _where(absolute, shaped).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        return _one_by_one(shaped, datetime.fromisoformat, timezone)
    return _collect(pc.coalesce(fixed, local.cast(pa.timestamp("us", tz="UTC"))))


def _where(keep: Mask, texts: pa.Array) -> pa.Array:
    return texts if keep.all() else pc.if_else(pa.array(keep), texts, None)


def _formatted(texts: pa.Array, pattern: str, timezone: str) -> ParsedTimes:
    """Parse with Arrow where it is exact: it takes 31 February, and knows no fractions and offsets."""
    if "%f" not in pattern and "%z" not in pattern.lower():
        naive = pc.strptime(texts, format=pattern, unit="s", error_is_null=True)
        if pc.all(pc.equal(pc.strftime(naive, format=pattern), texts), min_count=0).as_py() and not (
            naive.null_count > texts.null_count
        ):
            return _collect(_localise(naive, timezone))
    return _one_by_one(texts, lambda text: datetime.strptime(text, pattern), timezone)


def _one_by_one(texts: pa.Array, parse: Callable[[str], datetime], timezone: str) -> ParsedTimes:
    local = zone(timezone)
    times: Times = np.zeros(len(texts), dtype=np.int64)
    bad: Mask = np.zeros(len(texts), dtype=np.bool_)
    for row, text in enumerate(texts.to_pylist()):
        try:
            times[row] = instant(parse(text), local)
        except (TypeError, ValueError, OverflowError):
            bad[row] = True
    return ParsedTimes(times, bad)
