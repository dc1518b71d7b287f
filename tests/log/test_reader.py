from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.log import LogReader, ingest, open_wal
from bowerbird.log.imported.order import order_day
from bowerbird.log.slate_id import new_slate_id
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from tests.log import shop
from tests.log.shop import NOW, make_workspace, many_rows, row, wide_source, write_csv


def live(kind: str, identifier: str, time: int, **values: object) -> dict[str, object]:
    return {"_type": kind, "_id": identifier, "_time": time, "user": "ann", "item": 1} | values


def with_features(workspace: Workspace) -> Workspace:
    project = workspace.project
    features = {
        "page": bb.category(shop.shown["page"]),
        "price": bb.mean(shop.click, shop.click["price"], by=shop.user),
        "colour": bb.category(shop.items["colour"]),
    }
    changed = bb.Project(
        project.name, shop.shown, shop.item, shop.user, [shop.click], [shop.items], features, sources=project.sources
    )
    return Workspace(workspace.folder, changed, Settings())


def filled(tmp_path: Path, rows: int = 400) -> Workspace:
    workspace = make_workspace(tmp_path, wide_source(), bb.Source("items", "items.csv", shop.items))
    write_csv(tmp_path / "raw/log.csv", many_rows(rows))
    write_csv(tmp_path / "raw/items.csv", [[at, f"colour{at % 3}"] for at in range(23)], ["item", "colour"])
    ingest(workspace, now=NOW)
    return workspace


def all_records(workspace: Workspace) -> list[dict[str, object]]:
    reader = LogReader(workspace)
    found = [
        {**each, "type": record.name}
        for record in workspace.project.record_types
        for each in reader.records(record.name).to_pylist()
    ]
    return sorted(found, key=lambda each: each["_lsn"])


def test_lsns_are_ranks_in_the_documented_order(tmp_path: Path) -> None:
    records = all_records(filled(tmp_path))
    assert [each["_lsn"] for each in records] == list(range(len(records)))
    keys = [(each["_available"], each["type"] != "shown", each["type"], each["_id"]) for each in records]
    assert keys == sorted(keys)


def test_an_exposure_sees_what_became_available_before_it(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    available = [each["_available"] for each in all_records(workspace)]
    exposures = LogReader(workspace).exposures()
    assert exposures.num_rows == 400
    for each in exposures.to_pylist():
        assert each["_read_time"] == each["_time"]
        assert each["_read_lsn"] == sum(time < each["_time"] for time in available)
        assert each["_read_lsn"] <= each["_lsn"]


def test_a_delayed_exposure_is_read_at_its_event_time(tmp_path: Path) -> None:
    shown = bb.Exposure("shown", [shop.user, shop.item], delay="2d")
    source = bb.Source("log", "log.csv", shown, bb.Timestamp("ts", "s"), key=["uid", "ts"], columns={"user": "uid"})
    workspace = Workspace(tmp_path, bb.Project("p", shown, shop.item, shop.user, sources=[source]), Settings())
    (tmp_path / "raw").mkdir()
    day = 86_400
    write_csv(tmp_path / "raw/log.csv", [row(ts=1_699_000_000 + at * day) for at in range(5)])
    ingest(workspace, now=NOW)
    assert LogReader(workspace).exposures().column("_read_lsn").to_pylist() == [0, 0, 0, 1, 2]


def test_batches_hold_every_record_once_in_order(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    with open_wal(workspace) as wal:
        wal.append([live("order", "o", NOW, amount=1.0), live("click", "c", NOW, price=4.5)])
        wal.append([live("shown", "s", NOW, page=7)])
    records = all_records(workspace)
    plan = compile_plan(with_features(workspace).project)
    encoder = Encoder(plan)
    reader = LogReader(workspace)
    batches = list(reader.batches(plan, encoder))
    assert reader.size == len(records) == sum(len(batch.records) for batch in batches)
    at = 0
    for batch in batches:
        assert batch.first_lsn == at
        expected = encoder.encode_events(
            [{**each, "_type": each["type"]} for each in records[at : at + len(batch.records)]]
        )
        assert np.array_equal(batch.records.types, expected.types)
        assert np.array_equal(batch.records.times, expected.times)
        assert np.array_equal(batch.records.slots, expected.slots)
        at += len(batch.records)
    assert (np.concatenate([batch.records.types for batch in batches]) == -1).sum() == sum(
        each["type"] == "order" for each in records
    )


@pytest.mark.parametrize(
    ("first", "last"), [(0, 5), (3, 30), (100, 101), (23, 600), (610, None), (0, 0), (9_999, None)]
)
def test_ranges_of_lsns(tmp_path: Path, first: int, last: int | None) -> None:
    workspace = filled(tmp_path)
    with open_wal(workspace) as wal:
        wal.append([live("click", f"c{at}", NOW + at) for at in range(40)])
    reader, plan = LogReader(workspace), compile_plan(with_features(workspace).project)
    everything = [batch.records.times for batch in reader.batches(plan, Encoder(plan))]
    part = [batch.records.times for batch in reader.batches(plan, Encoder(plan), first, last)]
    empty = [np.empty(0, np.int64)]
    assert np.concatenate(part or empty).tolist() == np.concatenate(everything)[first:last].tolist()
    for name in ("shown", "click", "items"):
        rows = reader.records(name).to_pylist()
        end = reader.size if last is None else last
        assert reader.records(name, first, last).to_pylist() == [each for each in rows if first <= each["_lsn"] < end]


def test_live_exposures_see_their_slate_or_the_log_before_them(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 20)
    base = LogReader(workspace).size
    slates = [new_slate_id(base + 1, NOW + 50), new_slate_id(base + 900, NOW + 60)]
    with open_wal(workspace) as wal:
        assert wal.base == wal.next_lsn == base
        wal.append([live("click", "c", NOW), live("click", "d", NOW)])
        wal.append([live("shown", "a", NOW + 70, slate_id=slates[0])])
        wal.append([live("shown", "b", NOW + 80)])
        wal.append([live("shown", "c", NOW + 90, slate_id="mine")])
        wal.append([live("shown", "d", NOW + 95, slate_id=slates[1])])
    found = LogReader(workspace).exposures({"mine": (base, NOW + 55)}).to_pylist()[-4:]
    assert [(each["_read_lsn"], each["_read_time"]) for each in found] == [
        (base + 1, NOW + 50),
        (base + 3, NOW + 80),
        (base, NOW + 55),
        (base + 5, NOW + 95),
    ]


def test_an_import_before_the_first_live_record_moves_its_place(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 20)
    open_wal(workspace).close()
    write_csv(tmp_path / "raw/log2.csv", many_rows(30, start=50))
    assert not ingest(workspace, now=NOW).live
    size = LogReader(workspace).size
    with open_wal(workspace) as wal:
        assert wal.base == wal.next_lsn == size


def test_an_import_after_live_records_follows_them(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 20)
    imported = LogReader(workspace).size
    with open_wal(workspace) as wal:
        wal.append([live("click", "c", NOW)], now=NOW)
    before = all_records(workspace)
    rows = [*many_rows(40), row("new", clicked=1)]
    write_csv(tmp_path / "raw/log.csv", rows)
    report = ingest(workspace, now=NOW + 5)
    assert report.live and report.types["shown"].new == 21 and report.types["shown"].duplicates == 20
    after = all_records(workspace)
    assert after[: len(before)] == before
    added = after[len(before) :]
    assert {each["_available"] for each in added} == {NOW + 5}
    modelled = [(each["_time"] + (each["type"] == "click") * 1_000_000, each["type"] != "shown") for each in added]
    assert modelled == sorted(modelled)
    assert LogReader(workspace).imported_size == imported
    again = ingest(workspace, now=NOW + 9)
    assert again.new == 0 and all_records(workspace) == after


def test_ingest_beside_a_running_server_is_refused(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 5)
    with open_wal(workspace), pytest.raises(Exception, match="POST /v1/events"):
        ingest(workspace, now=NOW)
    with open_wal(workspace) as wal:
        wal.append([live("click", "c", NOW)])
        with pytest.raises(Exception, match="POST /v1/events"):
            ingest(workspace, now=NOW)


def test_folders_that_do_not_belong_together_are_an_error(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 20)
    with open_wal(workspace) as wal:
        wal.append([live("click", "c", NOW)])
    (workspace.log_folder / "manifest.json").unlink()
    with pytest.raises(CorruptionError, match="do not belong together"):
        LogReader(workspace)
    with pytest.raises(CorruptionError, match="do not belong together"):
        open_wal(workspace)


def test_columns_that_were_declared_later_are_null_and_changed_types_an_error(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    for columns, outcome in (
        ({"colour": bb.TEXT, "size": bb.NUMBER}, None),
        ({"colour": bb.INTEGER}, "declared as int64"),
    ):
        items = bb.Table("items", shop.item, columns)
        project = bb.Project("shop", shop.shown, shop.item, shop.user, [shop.click, shop.order], [items])
        reader = LogReader(Workspace(tmp_path, project, Settings()))
        if outcome is None:
            assert reader.records("items").column("size").null_count == 23
        else:
            with pytest.raises(InputError, match=outcome):
                reader.records("items")


def test_types_that_are_no_longer_declared_are_an_error(tmp_path: Path) -> None:
    workspace = filled(tmp_path, 5)
    project = bb.Project("shop", shop.shown, shop.item, shop.user, [shop.click, shop.order])
    with pytest.raises(InputError, match="undeclared record types: items"):
        LogReader(Workspace(workspace.folder, project, Settings()))
    with pytest.raises(NotFoundError, match="Did you mean 'click'"):
        LogReader(workspace).records("clik")


@pytest.mark.parametrize("damage", ["missing", "cut", "manifest"])
def test_a_damaged_log_is_an_error(tmp_path: Path, damage: str) -> None:
    workspace = filled(tmp_path, 50)
    part = next(workspace.log_folder.glob("shown/*/part-*.parquet"))
    if damage == "missing":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(part.read_bytes()[:-30])
    else:
        (workspace.log_folder / "manifest.json").write_bytes(b"{}}")
    with pytest.raises(CorruptionError):
        all_records(workspace)


def test_an_empty_log_is_readable(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    reader, plan = LogReader(workspace), compile_plan(with_features(workspace).project)
    assert reader.size == 0 and list(reader.batches(plan, Encoder(plan))) == []
    assert reader.exposures().num_rows == reader.records("click").num_rows == 0


day_records = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.text(max_size=3)), max_size=40)


@given(day_records, st.randoms(use_true_random=False))
def test_a_day_is_ordered_whatever_the_files(records: list[tuple[int, int, str]], chance: random.Random) -> None:
    records = sorted(set(records))
    chance.shuffle(records)
    by_type = [[each for each in records if each[1] == kind] for kind in range(3)]
    times = [np.array([each[0] for each in each_type], dtype=np.int64) for each_type in by_type]
    ids = [pa.chunked_array([pa.array([each[2] for each in each_type], pa.string())]) for each_type in by_type]
    order = order_day(times, lambda kind: ids[kind])
    found = [by_type[kind][at] for kind, at in zip(order.types, order.rows, strict=True)]
    assert found == sorted(records, key=lambda each: (each[0], each[1], each[2].encode()))
    assert order.available.tolist() == [each[0] for each in found]
