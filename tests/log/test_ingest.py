from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, NotFoundError, UnavailableError
from bowerbird.log import LogReader, ingest, ingest_table
from bowerbird.log.imported.manifest import read_manifest
from bowerbird.log.lock import FolderLock
from tests.log import shop
from tests.log.shop import NOW, make_workspace, many_rows, row, wide_source, write_csv


def contents(workspace: Workspace) -> dict[str, list[dict[str, object]]]:
    reader = LogReader(workspace)
    return {record.name: reader.records(record.name).to_pylist() for record in workspace.project.record_types}


def log_files(workspace: Workspace) -> list[str]:
    return sorted(str(path) for path in workspace.data_folder.rglob("*") if path.is_file() and path.name != "LOCK")


def test_a_wide_row_becomes_an_exposure_and_its_actions(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(clicked=1, paid=9.5, pay_after=90)])
    report = ingest(workspace, now=NOW)
    assert {name: count.new for name, count in report.types.items()} == {"shown": 1, "click": 1, "order": 1}
    time = 1_699_000_000_000_000
    found = contents(workspace)
    assert found["shown"] == [
        {
            "_id": "ann|1|1699000000",
            "_time": time,
            "_available": time,
            "user": "ann",
            "item": 1,
            "page": 1,
            "price": 2.5,
            "mobile": True,
            "slate_id": None,
            "position": None,
            "_lsn": 0,
        }
    ]
    assert found["click"][0]["_id"] == "ann|1|1699000000#click"
    assert (found["click"][0]["_time"], found["click"][0]["_available"]) == (time, time + 1_000_000)
    assert found["click"][0]["price"] == 2.5
    assert (found["order"][0]["_time"], found["order"][0]["amount"]) == (time + 90_000_000, 9.5)


def test_ingesting_twice_changes_nothing(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [*many_rows(500), row(uid="")])
    first = ingest(workspace, now=NOW)
    files, manifest, before = log_files(workspace), read_manifest(workspace.log_folder), contents(workspace)
    second = ingest(workspace, now=NOW)
    assert first.new > 500 and first.rejected == {"missing key": 1}
    assert second.new == 0 and second.rejected == first.rejected
    assert sum(count.duplicates for count in second.types.values()) == first.new
    assert (log_files(workspace), read_manifest(workspace.log_folder), contents(workspace)) == (files, manifest, before)


def test_the_order_of_files_and_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [*many_rows(300), *[row("dup", 1, 1_699_100_000, price=price, clicked=price % 2) for price in range(9)]]
    logs = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        workspace = make_workspace(folder)
        shuffled = random.Random(seed).sample(rows, len(rows))
        for part in range(4):
            write_csv(folder / f"raw/log{(part * 7 + seed) % 4}.csv", shuffled[part::4])
        ingest(workspace, now=NOW)
        parts = {part.file for part in read_manifest(workspace.log_folder).parts}
        logs.append((contents(workspace), parts))
    assert logs[0] == logs[1] == logs[2]


def test_repeated_rows_are_one_exposure_with_all_actions(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(clicked=0, page=2), row(clicked=1, page=3), row(clicked=1, page=4)])
    report = ingest(workspace, now=NOW)
    assert report.types["shown"].new == 1 and report.types["shown"].duplicates == 2
    assert report.types["click"].new == 1 and report.types["click"].duplicates == 1
    assert contents(workspace)["shown"][0]["page"] == 2


def test_a_later_ingest_keeps_what_is_stored_and_adds_new_actions(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log1.csv", [row(page=5)])
    ingest(workspace, now=NOW)
    write_csv(tmp_path / "raw/log2.csv", [row(page=1, clicked=1)])
    report = ingest(workspace, now=NOW)
    assert report.types["shown"].new == 0 and report.types["click"].new == 1
    assert contents(workspace)["shown"][0]["page"] == 5


def test_keys_with_separators_stay_distinct(tmp_path: Path) -> None:
    source = wide_source(key=["uid", "page"], actions=[])
    workspace = make_workspace(tmp_path, source)
    header = shop.HEADER
    rows = [row("a|1", page=2), row("a", page="1"), row("a\\", page=1), row("a\\|1", page=2)]
    write_csv(tmp_path / "raw/log.csv", rows, header)
    assert ingest(workspace, now=NOW).types["shown"].new == 4
    ids = [record["_id"] for record in contents(workspace)["shown"]]
    assert sorted(map(str, ids)) == sorted(["a\\|1|2", "a|1", "a\\\\|1", "a\\\\\\|1|2"])


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "jsonl.zst", "csv.zst", "parquet"])
def test_every_format_gives_the_same_log(tmp_path: Path, ending: str) -> None:
    rows = many_rows(50)
    expected = make_workspace(tmp_path / "expected")
    write_csv(tmp_path / "expected/raw/log.csv", rows)
    ingest(expected, now=NOW)
    workspace = make_workspace(tmp_path / "actual", wide_source("log.*"))
    path = tmp_path / "actual/raw" / f"log.{ending}"
    data = shop.csv_bytes(rows)
    if "tsv" in ending:
        data = data.replace(b",", b"\t")
    if "jsonl" in ending:
        data = b"".join(json.dumps(dict(zip(shop.HEADER, each, strict=True))).encode() + b"\n" for each in rows)
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([dict(zip(shop.HEADER, each, strict=True)) for each in rows]), path)
    elif ending.endswith(".gz"):
        path.write_bytes(gzip.compress(data))
    else:
        path.write_bytes(pa.compress(data, codec="zstd", asbytes=True) if ending.endswith(".zst") else data)
    assert ingest(workspace, now=NOW).rejected == {}
    assert contents(workspace) == contents(expected)


def test_an_arrow_table_is_ingested_once(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    table = pa.Table.from_pylist([dict(zip(shop.HEADER, each, strict=True)) for each in many_rows(30)])
    assert ingest_table(workspace, "log", table, now=NOW).types["shown"].new == 30
    assert ingest_table(workspace, "log", table, now=NOW).new == 0


def test_a_table_without_times_holds_from_the_beginning(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source(), bb.Source("items", "items.jsonl", shop.items))
    write_csv(tmp_path / "raw/log.csv", many_rows(5))
    (tmp_path / "raw/items.jsonl").write_text('{"item": 2, "colour": "red"}\n{"item": "1", "colour": null}\n')
    ingest(workspace, now=NOW)
    found = contents(workspace)["items"]
    assert [(each["item"], each["colour"], each["_time"], each["_available"], each["_lsn"]) for each in found] == [
        (1, None, 0, 0, 0),
        (2, "red", 0, 0, 1),
    ]


def test_a_second_writer_is_told_to_wait(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", many_rows(5))
    with FolderLock(workspace.log_folder, ""), pytest.raises(UnavailableError, match="being written by process"):
        ingest(workspace, now=NOW)
    assert ingest(workspace, now=NOW).new > 0


def test_an_unknown_column_is_named_with_its_nearest(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source(columns={"user": "user_id"}, key=["item", "ts"]))
    write_csv(tmp_path / "raw/log.csv", [row()], ["userid", *shop.HEADER[1:]])
    with pytest.raises(InputError, match=r"log\.csv has no column 'user_id'.*Did you mean 'userid'\?"):
        ingest(workspace, now=NOW)
    assert LogReader(workspace).size == 0


def test_a_column_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [[*row(), 1]], [*shop.HEADER, "ts"])
    with pytest.raises(InputError, match="more than one column 'ts'"):
        ingest(workspace, now=NOW)


def test_no_file_unknown_format_and_unknown_source_are_errors(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, wide_source("log.xlsx"))
    with pytest.raises(InputError, match=r"finds no file 'log\.xlsx'"):
        ingest(workspace, now=NOW)
    (tmp_path / "raw/log.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match="no known format"):
        ingest(workspace, now=NOW)
    with pytest.raises(NotFoundError, match="Did you mean 'log'"):
        ingest(workspace, ["logg"], now=NOW)


def test_records_go_to_the_folder_of_their_day(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", [row(ts=1_699_055_999), row(ts=1_699_056_000)])
    ingest(workspace, now=NOW)
    dates = [(part.type, part.date) for part in read_manifest(workspace.log_folder).parts]
    assert dates == [("shown", "2023-11-03"), ("shown", "2023-11-04")]


def test_what_an_interrupted_ingest_left_is_removed(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_csv(tmp_path / "raw/log.csv", many_rows(5))
    ingest(workspace, now=NOW)
    files = log_files(workspace)
    folder = workspace.log_folder / "shown/date=2023-11-03"
    for orphan in (folder / "part-0000000000000000.parquet", folder / ".writing-part.parquet"):
        orphan.write_bytes(b"half")
    staging = workspace.log_folder / ".staging/shown"
    staging.mkdir(parents=True)
    (staging / "share-1.arrow").write_bytes(b"half")
    ingest(workspace, now=NOW)
    assert log_files(workspace) == files


def test_an_ingest_larger_than_memory_gives_the_same_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*many_rows(400), *many_rows(100)]
    results = []
    for name, limit in (("memory", 1 << 30), ("disk", 2_000)):
        monkeypatch.setattr("bowerbird.log.imported.spill.MEMORY_LIMIT", limit)
        workspace = make_workspace(tmp_path / name)
        write_csv(tmp_path / name / "raw/log.csv", rows)
        report = ingest(workspace, now=NOW)
        results.append((contents(workspace), report.types))
        assert not (workspace.log_folder / ".staging").exists()
    assert results[0] == results[1]
