from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.declare import FLAG, INTEGER, NUMBER, TEXT, ColumnType
from bowerbird.errors import InputError
from bowerbird.log.imported.deduplicate import split_by_id, without_duplicates, without_stored
from bowerbird.log.rows.coerce import coerce
from bowerbird.log.rows.validate import EventValidator
from tests.log.shop import NOW
from tests.log.test_validate import PROJECT

BAD = "bad"


def outcome(values: list[object], target: ColumnType, kind: pa.DataType | None = None) -> list[object]:
    coerced = coerce(pa.array(values, kind), target)
    found: list[object] = coerced.values.to_pylist()
    for mask in coerced.faults.values():
        found = [BAD if bad else value for value, bad in zip(found, mask, strict=True)]
    return found


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        (["712", "007", "", None, " 5"], TEXT, ["712", "007", None, None, " 5"]),
        ([712, None], TEXT, ["712", None]),
        ([7.0], TEXT, [BAD]),
        ([True], TEXT, [BAD]),
        (["712", "007", "", "-5", "+5", "0x1F", "1e3", " 5"], INTEGER, [712, 7, None, -5, BAD, BAD, BAD, BAD]),
        (["9223372036854775807", "9223372036854775808"], INTEGER, [2**63 - 1, BAD]),
        ([7.0, 1.5, float("nan"), 2.0**60], INTEGER, [7, BAD, None, BAD]),
        ([True, None], INTEGER, [BAD, None]),
        ([1, 0, 2], FLAG, [True, False, BAD]),
        ([1.0, 0.0, 0.5], FLAG, [True, False, BAD]),
        (["true", "FALSE", "1", "0", "yes", ""], FLAG, [True, False, True, False, BAD, None]),
        (
            ["1.5", "nan", "inf", "-Infinity", "x", "1,5", ".5", "1e3"],
            NUMBER,
            [1.5, None, BAD, BAD, BAD, BAD, 0.5, 1e3],
        ),
        ([1, None], NUMBER, [1.0, None]),
        ([True], NUMBER, [BAD]),
        ([None, None], INTEGER, [None, None]),
    ],
)
def test_coercions(values: list[object], target: ColumnType, expected: list[object]) -> None:
    assert outcome(values, target) == expected


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_text_column_is_text(kind: pa.DataType) -> None:
    assert outcome(["a", "", None], TEXT, kind) == ["a", None, None]


def test_unsigned_and_small_integers() -> None:
    assert outcome([2**63, 5], INTEGER, pa.uint64()) == [BAD, 5]
    assert outcome([5, None], INTEGER, pa.int8()) == [5, None]
    assert outcome([2**64 - 1], TEXT, pa.uint64()) == [str(2**64 - 1)]


def test_types_that_are_no_values_are_rejected() -> None:
    for target in (TEXT, INTEGER, FLAG, NUMBER):
        assert outcome([[1], None], target) == [BAD, None]


raw_values = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["1", "0", "true", "-7", "1.5", "1e3", "99999999999999999999", "inf", "NaN"]),
)


@given(raw_values, st.sampled_from([("item", INTEGER), ("user", TEXT), ("price", NUMBER), ("mobile", FLAG)]))
def test_live_events_follow_the_rules_of_ingest(value: object, field: tuple[str, ColumnType]) -> None:
    """What a file may hold, an event may hold, with the same result; NaN text alone is for files."""
    name, target = field
    imported = outcome([value], target)[0]
    event = {"type": "shown", "user": "u", "item": 1, name: value}
    try:
        live = EventValidator(PROJECT).validate(event, NOW).get(name)
    except InputError:
        live = None if imported is None else BAD
    assert live == imported


rows = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3), st.sampled_from([None, 0.5, -0.0])), max_size=30)


@given(rows, st.randoms(use_true_random=False))
def test_one_row_per_id_whatever_the_order(records: list[tuple[str, int, float | None]], chance: random.Random) -> None:
    def table(each: list[tuple[str, int, float | None]]) -> pa.Table:
        columns = {"_id": [r[0] for r in each], "_time": [r[1] for r in each], "price": [r[2] for r in each]}
        return pa.table(columns, pa.schema([("_id", pa.string()), ("_time", pa.int64()), ("price", pa.float64())]))

    shuffled = list(records)
    chance.shuffle(shuffled)
    one, other = (without_duplicates(table(each)).sort_by("_id") for each in (records, shuffled))
    assert one.equals(other)
    assert one.column("_id").to_pylist() == sorted({record[0] for record in records})
    for identifier, time in zip(one.column("_id").to_pylist(), one.column("_time").to_pylist(), strict=True):
        assert time == min(record[1] for record in records if record[0] == identifier)
    left = without_stored(one, [pa.chunked_array([pa.array(["b", "x"])]), pa.chunked_array([pa.array(["d"])])])
    assert set(left.column("_id").to_pylist()) == {record[0] for record in records} - {"b", "d"}


def test_equal_ids_have_equal_shares() -> None:
    table = pa.table({"_id": ["a", "b", "a", "ü", "ü"]})
    shares = split_by_id(table)
    assert shares[0] == shares[2] and shares[3] == shares[4]
    assert split_by_id(table.slice(1))[0] == shares[1]
