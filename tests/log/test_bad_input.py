from __future__ import annotations

import gzip
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird import declare as bb
from bowerbird.errors import InputError
from bowerbird.log import LogReader, count_dead_letters, ingest, ingest_table, read_dead_letters
from tests.log import shop
from tests.log.shop import NOW, make_workspace, many_rows, row, wide_source, write_csv


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"uid": ""}, "missing key", "uid = None: 'user' must be given"),
        ({"item": ""}, "missing key", "item = None"),
        ({"item": "x1"}, "wrong type", "item = 'x1': expected integer for 'item'"),
        ({"item": "9223372036854775808"}, "wrong type", "item = '9223372036854775808'"),
        ({"page": "1.5"}, "wrong type", "page = '1.5': expected integer for 'page'"),
        ({"price": "cheap"}, "wrong type", "price = 'cheap': expected number for 'price'"),
        ({"price": "inf"}, "not finite", "price = 'inf'"),
        ({"mobile": "yes"}, "wrong type", "mobile = 'yes': expected flag for 'mobile'"),
        ({"ts": "noon"}, "bad time", "ts = 'noon': expected a number of s since 1970"),
        ({"ts": ""}, "bad time", "ts = None"),
        ({"ts": 12}, "time before 1990", "ts = '12'"),
        ({"ts": NOW // 1_000_000 + 86_401}, "event from the future", "ts = "),
        ({"ts": 1_699_000_000_000}, "event from the future", "check the unit"),
        ({"clicked": "maybe"}, "wrong type", "clicked = 'maybe'"),
        ({"paid": 3, "pay_after": -1}, "bad time", "pay_after = '-1'"),
        ({"paid": 3, "pay_after": ""}, "bad time", "pay_after = None"),
    ],
)
def test_a_bad_row_is_a_dead_letter(tmp_path: Path, changes: dict[str, object], reason: str, detail: str) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(), row("bob", **changes) if "uid" not in changes else row(**changes)])
    report = ingest(workspace, now=NOW)
    assert report.rejected == {reason: 1}
    assert report.types["shown"].new == 1
    (letter,) = read_dead_letters(workspace.dead_letter_folder)
    assert (letter.source, letter.file, letter.line, letter.reason) == ("log", "log.csv", 3, reason)
    assert detail in letter.detail
    assert letter.row is not None and set(letter.row) == set(shop.HEADER)


def test_what_is_missing_but_may_be_is_accepted(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    changes = {"page": "", "mobile": "", "price": "NaN", "clicked": "", "paid": "", "pay_after": ""}
    write_csv(tmp_path / "raw/log.csv", [row(**changes)])
    assert ingest(workspace, now=NOW).rejected == {}
    (record,) = LogReader(workspace).records("shown").to_pylist()
    assert (record["page"], record["price"], record["mobile"]) == (None, None, None)


def test_a_time_just_within_the_tolerance_is_accepted(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(ts=NOW // 1_000_000 + 86_400)])
    assert ingest(workspace, now=NOW).rejected == {}
    write_csv(tmp_path / "raw/log.csv", [row("bob", ts=NOW // 1_000_000 + 3_601)])
    assert ingest(workspace, now=NOW, tolerance="1h").rejected == {"event from the future": 1}
    with pytest.raises(InputError, match="'soon' is not a duration"):
        ingest(workspace, now=NOW, tolerance="soon")


def test_dead_letters_do_not_double_and_go_when_the_file_is_corrected(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log1.csv", [row(uid=""), row()])
    write_csv(tmp_path / "raw/log2.csv", [row(uid=""), row(ts=1)])
    for _ in range(2):
        ingest(workspace, now=NOW)
        assert count_dead_letters(workspace.dead_letter_folder) == {
            ("log", "missing key"): 2,
            ("log", "time before 1990"): 1,
        }
    write_csv(tmp_path / "raw/log1.csv", [row("ann"), row()])
    ingest(workspace, now=NOW)
    assert count_dead_letters(workspace.dead_letter_folder).total() == 2
    listed = read_dead_letters(workspace.dead_letter_folder, reason="missing key")
    assert [letter.file for letter in listed] == ["log2.csv"]


def test_rejected_rows_of_a_table_do_not_double(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    table = pa.table({name: [value, value] for name, value in zip(shop.HEADER, row(), strict=True)})
    table = table.set_column(1, "item", pa.array(["1", "x"]))
    for _ in range(2):
        assert ingest_table(workspace, "log", table, now=NOW).rejected == {"wrong type": 1}
        assert [letter.line for letter in read_dead_letters(workspace.dead_letter_folder)] == [2]


def test_lines_with_a_wrong_number_of_values_keep_their_line_numbers(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(), ["short"], row("bob"), [*row(), "long"], row("eve", item="x")])
    assert ingest(workspace, now=NOW).rejected == {"unreadable line": 2, "wrong type": 1}
    letters = {letter.line: letter for letter in read_dead_letters(workspace.dead_letter_folder)}
    assert sorted(letters) == [3, 5, 6]
    assert letters[3].text == "short" and "expected 9 values, found 1" in letters[3].detail
    assert letters[6].reason == "wrong type"


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".jsonl.gz"])
def test_a_truncated_file_keeps_its_whole_lines(tmp_path: Path, ending: str) -> None:
    rows = many_rows(20_000)
    data = shop.csv_bytes(rows)
    if "jsonl" in ending:
        lines = ['{"uid":"%s","item":%s,"ts":%s,"page":1,"price":1,"mobile":1,"clicked":0,"paid":0,"pay_after":0}']
        data = b"".join((lines[0] % tuple(each[:3])).encode() + b"\n" for each in rows)
    packed = gzip.compress(data, 1) if ending.endswith("gz") else pa.compress(data, codec="zstd", asbytes=True)
    workspace = make_workspace(tmp_path, wide_source(f"log{ending}"))
    (tmp_path / f"raw/log{ending}").write_bytes(packed[: len(packed) * 2 // 3])
    report = ingest(workspace, now=NOW)
    assert report.rejected == {"truncated file": 1}
    (letter,) = read_dead_letters(workspace.dead_letter_folder)
    header_lines = 1 if "csv" in ending else 0
    assert letter.line == report.rows + header_lines + 1 and "ends early" in letter.detail
    assert 5_000 < report.rows < 19_000
    stored = {record["_id"] for record in LogReader(workspace).records("shown").to_pylist()}
    assert stored == {f"{each[0]}|{each[1]}|{each[2]}" for each in rows[: report.rows]}
    (tmp_path / f"raw/log{ending}").write_bytes(packed)
    assert ingest(workspace, now=NOW).rejected == {}
    assert count_dead_letters(workspace.dead_letter_folder) == {}


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_gzip_cut_in_its_first_bytes_is_no_crash(tmp_path: Path, cut: int) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.csv.gz"))
    (tmp_path / "raw/log.csv.gz").write_bytes(gzip.compress(shop.csv_bytes([row()]))[:cut])
    assert ingest(workspace, now=NOW).rejected == {"truncated file": 1}
    assert LogReader(workspace).size == 0


def test_a_plain_file_cut_in_a_line_ends_with_a_short_line(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    (tmp_path / "raw/log.csv").write_bytes(shop.csv_bytes([row(), row("bob")])[:-12])
    assert ingest(workspace, now=NOW).rejected == {"unreadable line": 1}


def test_empty_and_damaged_files_are_reported_and_the_others_ingested(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log*"))
    raw = tmp_path / "raw"
    (raw / "log1.csv").write_bytes(b"")
    (raw / "log2.parquet").write_bytes(b"PAR1 and nothing more")
    (raw / "log3.csv").write_bytes(",".join(shop.HEADER).encode())
    (raw / "log4.jsonl").write_bytes(b"\n\n")
    (raw / "log5.csv.gz").write_bytes(b"not gzip at all")
    (raw / "log6.csv").write_bytes(b"\n\n")
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in shop.HEADER}), raw / "log7.parquet")
    write_csv(raw / "log8.csv", [row()])
    report = ingest(workspace, now=NOW)
    assert report.types["shown"].new == 1
    assert report.rejected == {"empty file": 3, "unreadable file": 1, "truncated file": 1}
    assert {letter.file for letter in read_dead_letters(workspace.dead_letter_folder)} == {
        "log1.csv",
        "log2.parquet",
        "log4.jsonl",
        "log5.csv.gz",
        "log6.csv",
    }


def test_a_damaged_page_of_a_parquet_file_is_reported(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.parquet"))
    path = tmp_path / "raw/log.parquet"
    rows = [dict(zip(shop.HEADER, each, strict=True)) for each in many_rows(2_000)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(data))
    report = ingest(workspace, now=NOW)
    assert report.rejected["unreadable file"] == 1 and report.rows < 2_000


def test_bad_json_lines(tmp_path: Path) -> None:
    good = '{"uid":"a","item":1,"ts":1699000000,"page":1,"price":1,"mobile":true,"clicked":1,"paid":0,"pay_after":0}'
    lines = [good, "{", "", "[1]", good.replace('"a"', '["a"]'), good.replace('"a"', "712"), "\udcff"]
    workspace = make_workspace(tmp_path, wide_source("log.jsonl"))
    (tmp_path / "raw/log.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    report = ingest(workspace, now=NOW)
    assert report.rejected == {"unreadable line": 3, "wrong type": 1}
    assert {letter.line for letter in read_dead_letters(workspace.dead_letter_folder)} == {2, 4, 5, 7}
    assert set(LogReader(workspace).records("shown").column("user").to_pylist()) == {"a", "712"}


def test_json_objects_without_any_column_are_an_error(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.jsonl"))
    (tmp_path / "raw/log.jsonl").write_bytes(b"{}\n{}\n")
    with pytest.raises(InputError, match=r"log\.jsonl has no column"):
        ingest(workspace, now=NOW)


def test_text_that_is_not_utf8_is_a_dead_letter(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    data = shop.csv_bytes([row("ann"), row("böb"), row("eve")]).decode().encode("latin-1")
    (tmp_path / "raw/log.csv").write_bytes(data)
    report = ingest(workspace, now=NOW)
    assert report.types["shown"].new == 2 and report.rejected == {"wrong type": 1}


def test_an_unclosed_quote_is_reported(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    data = shop.csv_bytes([row("ann"), row("bob"), row("eve")]).replace(b"bob", b'"bob')
    (tmp_path / "raw/log.csv").write_bytes(data)
    report = ingest(workspace, now=NOW)
    assert report.types["shown"].new == 1
    assert report.rejected["unbalanced quote"] == 1


def test_numbers_in_a_text_time_column_name_the_remedy(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.parquet", time=bb.Timestamp("ts")))
    rows = [dict(zip(shop.HEADER, row(), strict=True))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "raw/log.parquet")
    with pytest.raises(InputError, match=r'Timestamp\(.ts., unit="s"\)'):
        ingest(workspace, now=NOW)
    assert LogReader(workspace).size == 0


def test_infinite_numbers_of_parquet_are_rejected(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.parquet"))
    rows = [row(price=price, item=at) for at, price in enumerate([math.inf, -math.inf, math.nan, 1.0, None])]
    table = pa.Table.from_pylist([dict(zip(shop.HEADER, each, strict=True)) for each in rows])
    pq.write_table(table, tmp_path / "raw/log.parquet")
    report = ingest(workspace, now=NOW)
    assert report.rejected == {"not finite": 2} and report.types["shown"].new == 3
