from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.declare import Timestamp
from bowerbird.errors import InputError
from bowerbird.log.rows.timestamps import parse_times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def parse(values: list[object], *arguments: object, **named: object) -> list[int | None]:
    parsed = parse_times(pa.array(values), Timestamp("t", *arguments, **named))  # type: ignore[arg-type]
    return [None if bad else int(time) for time, bad in zip(parsed.times, parsed.bad, strict=True)]


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-03-10 12:00:00", "UTC", "2024-03-10T12:00:00+00:00"),
        ("2024-03-10T12:00:00.123456", "UTC", "2024-03-10T12:00:00.123456+00:00"),
        ("2024-03-10T12:00", "Asia/Shanghai", "2024-03-10T04:00:00+00:00"),
        ("2024-03-10", "Asia/Shanghai", "2024-03-09T16:00:00+00:00"),
        ("2024-03-10T12:00:00Z", "Asia/Shanghai", "2024-03-10T12:00:00+00:00"),
        ("2024-03-10T12:00:00+05:30", "Asia/Shanghai", "2024-03-10T06:30:00+00:00"),
        ("2024-03-10 12:00:00-0800", "UTC", "2024-03-10T20:00:00+00:00"),
        ("2024-10-27 02:30:00", "Europe/Berlin", "2024-10-27T00:30:00+00:00"),
        ("2024-03-31 02:30:00", "Europe/Berlin", "2024-03-31T01:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("neighbour", [None, "2024-02-31 00:00:00"])
def test_iso_text(text: str, zone: str, expected: str, neighbour: str | None) -> None:
    """A bad neighbour sends the batch the slow way, which must answer the same."""
    assert parse([text, neighbour], "text", zone) == [micros(expected), None]


@pytest.mark.parametrize("text", ["", "x", "2024-13-01", "2024-02-30 10:00", "10:00", "1699000000", "2024-03-10T25:00"])
def test_text_that_is_no_time(text: str) -> None:
    assert parse([text, "2024-01-01"]) == [None, micros("2024-01-01T00:00:00+00:00")]


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("31/10/2024 23:05", "%d/%m/%Y %H:%M", "2024-10-31T22:05:00+00:00"),
        ("27/10/2024 02:30", "%d/%m/%Y %H:%M", "2024-10-27T00:30:00+00:00"),
        ("31/03/2024 02:30", "%d/%m/%Y %H:%M", "2024-03-31T01:00:00+00:00"),
        ("20241031", "%Y%m%d", "2024-10-30T23:00:00+00:00"),
        ("2024-10-31 10:00:00.250", "%Y-%m-%d %H:%M:%S.%f", "2024-10-31T09:00:00.250000+00:00"),
        ("2024-10-31 10:00 +0200", "%Y-%m-%d %H:%M %z", "2024-10-31T08:00:00+00:00"),
    ],
)
def test_formatted_text(text: str, pattern: str, expected: str) -> None:
    assert parse([text], "text", "Europe/Berlin", pattern) == [micros(expected)]
    assert parse([text, "nonsense"], "text", "Europe/Berlin", pattern) == [micros(expected), None]


def test_a_day_that_does_not_exist_is_no_time() -> None:
    assert parse(["31/02/2024 00:00", "01/03/2024 00:00"], "text", "UTC", "%d/%m/%Y %H:%M") == [
        None,
        micros("2024-03-01T00:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_650_812_741, "s", 1_650_812_741_000_000),
        (1_650_812_741_436, "ms", 1_650_812_741_436_000),
        (1_650_812_741_436_123, "us", 1_650_812_741_436_123),
        (1_650_812_741_436_123_999, "ns", 1_650_812_741_436_123),
        (1_650_812_741.25, "s", 1_650_812_741_250_000),
        ("1650812741.25", "s", 1_650_812_741_250_000),
        ("1650812741436", "ms", 1_650_812_741_436_000),
        (10**18, "s", None),
        ("soon", "s", None),
    ],
)
def test_numbers(value: object, unit: str, expected: int | None) -> None:
    assert parse([value, None], unit) == [expected, None]


def test_timestamps_and_dates_of_parquet() -> None:
    moment = datetime(2024, 3, 10, 12)
    assert parse([moment], "text", "Asia/Shanghai") == [micros("2024-03-10T04:00:00+00:00")]
    assert parse([moment.replace(tzinfo=UTC)], "ms", "Asia/Shanghai") == [micros("2024-03-10T12:00:00+00:00")]
    assert parse([moment.date()], "text", "Asia/Shanghai") == [micros("2024-03-09T16:00:00+00:00")]


def test_an_unknown_zone_is_an_error() -> None:
    with pytest.raises(InputError, match="'Berlin' is not a time zone"):
        parse(["2024-03-10"], "text", "Berlin")


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
moments = st.datetimes(datetime(1990, 1, 2), datetime(2037, 12, 30))


@given(moments, zones)
def test_local_times_agree_with_python(moment: datetime, zone: str) -> None:
    local = moment.replace(tzinfo=ZoneInfo(zone))
    if local.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != moment:
        return
    assert parse([moment.isoformat(" ")], "text", zone) == [(local - EPOCH) // timedelta(microseconds=1)]


@given(st.integers(0, 4_000_000_000_000_000), zones)
def test_instants_survive_being_written_with_an_offset(instant: int, zone: str) -> None:
    moment = (EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(zone))
    assert parse([moment.isoformat()], "text", "Asia/Shanghai") == [instant]
