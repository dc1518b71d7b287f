from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import declare as bb
from bowerbird.errors import InputError
from bowerbird.log import LogReader, ingest, open_wal
from bowerbird.log.rows.validate import EventValidator, validate_event
from bowerbird.log.slate_id import new_slate_id
from tests.log import shop
from tests.log.shop import NOW, make_workspace, row, wide_source, write_csv

PROJECT = bb.Project("shop", shop.shown, shop.item, shop.user, [shop.click, shop.order], [shop.items])
VALIDATOR = EventValidator(PROJECT)


def check(**event: Any) -> dict[str, Any]:
    return VALIDATOR.validate({"type": "shown", "user": "ann", "item": 5} | event, NOW)


def test_a_full_event_is_normalised() -> None:
    slate = new_slate_id(3, NOW)
    found = check(id="e1", time=NOW - 5, page="7", price=2, mobile="true", slate_id=slate, position=0)
    assert found == {
        "_type": "shown",
        "_id": "e1",
        "_time": NOW - 5,
        "user": "ann",
        "item": 5,
        "page": 7,
        "price": 2.0,
        "mobile": True,
        "slate_id": slate,
        "position": 0,
    }


def test_what_is_not_given_is_derived_or_absent() -> None:
    assert check(page=None, price=None) == {
        "_type": "shown",
        "_id": f"shown|ann|5|{NOW}",
        "_time": NOW,
        "user": "ann",
        "item": 5,
    }
    assert check(user="a|b\\", id="")["_id"] == f"shown|a\\|b\\\\|5|{NOW}"
    assert check(id=712)["_id"] == "712"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (NOW, NOW),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14 22:13:20", NOW),
        (NOW + 900_000_000, NOW + 900_000_000),
    ],
)
def test_times(time: object, expected: int) -> None:
    assert check(time=time)["_time"] == expected


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "show"}, r"type is 'show', which is not declared\. Did you mean 'shown'\?"),
        ({"type": None}, "type is None"),
        ({"type": ["shown"]}, "which is not declared"),
        ({"usr": "ann"}, r"no field 'usr'\. Did you mean 'user'\?"),
        ({"user": None}, "'shown' has no 'user'"),
        ({"user": ""}, "'shown' has no 'user'"),
        ({"user": "\ud800"}, r"user of 'shown' is '\\ud800'"),
        ({"id": "\udfff"}, "id of 'shown' is"),
        ({"user": 1.5}, "user of 'shown' is 1.5. Its declared type is text"),
        ({"user": True}, "user of 'shown' is True"),
        ({"user": ["ann"]}, r"user of 'shown' is \['ann'\]"),
        ({"item": "x"}, "item of 'shown' is 'x'. Its declared type is integer"),
        ({"item": True}, "item of 'shown' is True"),
        ({"item": 2**63}, "item of 'shown' is 9223372036854775808"),
        ({"item": 1.5}, "item of 'shown' is 1.5"),
        ({"mobile": 2}, "mobile of 'shown' is 2. Its declared type is flag"),
        ({"mobile": []}, r"mobile of 'shown' is \[\]"),
        ({"price": "cheap"}, "price of 'shown' is 'cheap'. Its declared type is number"),
        ({"price": float("inf")}, "price of 'shown' is inf"),
        ({"price": "1e999"}, "price of 'shown' is '1e999'"),
        ({"price": 10**400}, "price of 'shown'"),
        ({"time": 1_700_000_000}, "before 1990. Numbers are microseconds"),
        ({"time": NOW + 900_000_001}, "an event from the future"),
        ({"time": "noon"}, "time is 'noon'. Write ISO 8601"),
        ({"time": 1.5}, "time is 1.5"),
        ({"time": True}, "time is True"),
        ({"slate_id": "abc"}, "'abc' is not a slate id"),
        ({"id": 1.5}, "id of 'shown' is 1.5"),
        ({"position": "first"}, "position of 'shown' is 'first'"),
    ],
)
def test_what_is_wrong_is_named(event: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(**event)


def test_a_retraction_repeats_what_it_takes_back() -> None:
    given = {"id": "e1", "time": NOW - 5, "price": 2}
    original = check(**given)
    assert check(**given, retracts=True) == original | {"_id": "e1#retracted", "_retracts": True}
    assert check(time=NOW, retracts="true")["_id"] == f"shown|ann|5|{NOW}#retracted"
    assert check(**given, retracts=False) == check(**given, retracts=None) == original
    with pytest.raises(InputError, match="has no time"):
        check(id="e1", retracts=True)
    with pytest.raises(InputError, match="retracts of 'shown' is 'maybe'"):
        check(**given, retracts="maybe")
    with pytest.raises(InputError, match="rows are not taken back"):
        validate_event(PROJECT, {"type": "items", "item": 5, "time": NOW, "retracts": True}, NOW)


def test_a_table_record_takes_neither_slate_nor_position() -> None:
    assert validate_event(PROJECT, {"type": "items", "item": "5", "colour": "red"}, NOW)["item"] == 5
    with pytest.raises(InputError, match="no field 'slate_id'"):
        validate_event(PROJECT, {"type": "items", "item": 5, "slate_id": new_slate_id(1, 1)}, NOW)


def test_a_column_with_a_reserved_name_is_refused_where_it_matters() -> None:
    table = bb.Table("things", shop.item, {"type": bb.TEXT})
    project = bb.Project("shop", shop.shown, shop.item, shop.user, tables=[table])
    validator = EventValidator(project)
    assert validator.validate({"type": "shown", "user": "ann", "item": 1}, NOW)["item"] == 1
    with pytest.raises(InputError, match="'things' declares 'type'"):
        validator.validate({"type": "things", "item": 1}, NOW)


def test_a_live_event_and_its_import_have_one_id(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source(key=(), actions=[]))
    write_csv(tmp_path / "raw/log.csv", [row("ann|x", 5)])
    with open_wal(workspace) as wal:
        event = {"type": "shown", "user": "ann|x", "item": 5, "time": 1_699_000_000_000_000}
        wal.append([validate_event(workspace.project, event, NOW)])
    report = ingest(workspace, now=NOW)
    assert (report.types["shown"].new, report.types["shown"].duplicates) == (0, 1)
    assert LogReader(workspace).size == 1


@given(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.integers(-(2**63), 2**63 - 1))
def test_derived_ids_are_equal_only_for_equal_events(user: str, item: int, other: str, other_item: int) -> None:
    if not user or not other:
        return
    same = check(user=user, item=item)["_id"] == check(user=other, item=other_item)["_id"]
    assert same == ((user, item) == (other, other_item))
