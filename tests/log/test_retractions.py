from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.errors import InputError
from bowerbird.log import LogReader, ingest, open_wal, read_dead_letters
from bowerbird.log.imported.parts import write_part
from bowerbird.log.imported.store import LogStore
from bowerbird.log.rows.validate import validate_event
from bowerbird.log.schema import MARKS, record_schema
from bowerbird.plan.batch import RETRACTION
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from tests.log import shop
from tests.log.shop import NOW

TIME = 1_699_000_000
HEADER = ["id", "user", "item", "time", "arrived", "amount", "cancelled"]
SOURCE = bb.Source(
    "orders",
    "orders*.csv",
    shop.order,
    bb.Timestamp("time", "s"),
    id="id",
    retracts="cancelled",
    available=bb.Timestamp("arrived", "s"),
)


def make_workspace(folder: Path, source: bb.Source = SOURCE, order: bb.Event = shop.order) -> Workspace:
    features = {"orders": bb.count(order, by=shop.user), "page": bb.category(shop.shown["page"])}
    project = bb.Project("shop", shop.shown, shop.item, shop.user, [order], [], features, sources=[source])
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    return Workspace(folder, project, Settings())


def order(identifier: str, arrived: int, amount: float = 5.0, cancelled: object = 0) -> list[object]:
    return [identifier, "ann", 1, TIME, TIME + arrived, amount, cancelled]


def types_of(workspace: Workspace) -> list[int]:
    plan = compile_plan(workspace.project)
    own = plan.type_index("order")
    batches = LogReader(workspace).batches(plan, Encoder(plan))
    return [int(kind) - own for batch in batches for kind in batch.records.types]


def test_a_file_takes_back_what_it_or_an_earlier_one_said(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    shop.write_csv(tmp_path / "raw/orders1.csv", [order("a", 10), order("b", 20), order("b", 90, cancelled=1)], HEADER)
    ingest(workspace, now=NOW)
    assert types_of(workspace) == [0, 0, RETRACTION]
    assert LogReader(workspace).records("order").column("_id").to_pylist() == ["a"]
    assert LogReader(workspace).records("order", last=2).column("_id").to_pylist() == ["a", "b"]
    shop.write_csv(tmp_path / "raw/orders2.csv", [order("a", 95, cancelled="true")], HEADER)
    report = ingest(workspace, now=NOW)
    assert report.types["order"].new == 1 and report.rejected == Counter()
    assert types_of(workspace) == [0, 0, RETRACTION, RETRACTION]
    assert LogReader(workspace).records("order").num_rows == 0
    assert ingest(workspace, now=NOW).new == 0


def test_taking_back_what_never_was_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowerbird.log.imported.spill.MEMORY_LIMIT", 100)  # many shares: a pair must meet in one
    workspace = make_workspace(tmp_path)
    pairs = [row for n in range(40) for row in (order(f"o{n}", 10), order(f"o{n}", 20, cancelled=1))]
    orphans = [order(f"never{n}", 30, cancelled=1) for n in range(5)]
    shop.write_csv(tmp_path / "raw/orders.csv", [*orphans, *pairs], HEADER)
    for _ in range(2):
        report = ingest(workspace, now=NOW)
        assert report.rejected == {"nothing to take back": 5}
        letters = list(read_dead_letters(workspace.dead_letter_folder))
        assert sorted(letter.row["_id"] for letter in letters if letter.row) == [
            f"never{n}#retracted" for n in range(5)
        ]
    assert LogReader(workspace).size == 80 and LogReader(workspace).records("order").num_rows == 0
    shop.write_csv(tmp_path / "raw/orders2.csv", [order(f"never{n}", 5) for n in range(5)], HEADER)
    assert ingest(workspace, now=NOW).rejected == {}
    assert not list(read_dead_letters(workspace.dead_letter_folder))


def test_a_wide_row_is_taken_back_with_its_actions(tmp_path: Path) -> None:
    source = shop.wide_source(retracts="gone", available=bb.Timestamp("seen", "s"))
    workspace = shop.make_workspace(tmp_path, source)
    header = [*shop.HEADER, "gone", "seen"]
    rows = [
        [*shop.row(user, clicked=1), gone, TIME + seen]
        for user, gone, seen in [("ann", 0, 0), ("ann", 1, 9), ("bob", 0, 3)]
    ]
    shop.write_csv(tmp_path / "raw/log.csv", rows, header)
    assert ingest(workspace, now=NOW).new == 6
    reader = LogReader(workspace)
    assert reader.records("click").column("user").to_pylist() == ["bob"]
    assert reader.exposures().column("user").to_pylist() == ["bob"]


def test_a_retraction_tells_when_it_became_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes back records by 'cancelled'"):
        ingest(_with_rows(make_workspace(tmp_path / "a", _source(available=None))), now=NOW)
    workspace = _with_rows(make_workspace(tmp_path / "b"), [["a", "ann", 1, TIME, "", 5, 1]])
    assert ingest(workspace, now=NOW).rejected == {"bad time": 1}


def _source(**changes: object) -> bb.Source:
    return replace(SOURCE, **changes)  # type: ignore[arg-type]


def _with_rows(workspace: Workspace, rows: list[list[object]] | None = None) -> Workspace:
    shop.write_csv(workspace.raw_folder / "orders.csv", rows or [order("a", 1)], HEADER)
    return workspace


def test_live_retractions_follow_the_same_way(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    event = {"type": "order", "id": "a", "user": "ann", "item": 1, "amount": 5, "time": NOW}
    with open_wal(workspace) as wal:
        for extra in ({}, {"retracts": True}):
            wal.append([validate_event(workspace.project, event | extra, NOW)])
    assert types_of(workspace) == [0, RETRACTION]
    assert LogReader(workspace).records("order").num_rows == 0


def test_an_import_after_live_records_takes_back_live_ones(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    event = {"type": "order", "id": "a", "user": "ann", "item": 1, "amount": 5, "time": TIME * 1_000_000}
    with open_wal(workspace) as wal:
        wal.append([validate_event(workspace.project, event, NOW)])
    _with_rows(workspace, [order("a", 9, cancelled=1), order("b", 9, cancelled=1)])
    assert ingest(workspace, now=NOW).rejected == {"nothing to take back": 1}
    assert types_of(workspace) == [0, RETRACTION]


def test_parts_written_before_there_were_marks_are_read(tmp_path: Path) -> None:
    workspace = _with_rows(make_workspace(tmp_path), [order("a", 9), order("b", 9)])
    ingest(workspace, now=NOW)
    with LogStore(workspace.log_folder) as store:
        (part,) = store.manifest.parts
        table = pq.read_table(workspace.log_folder / part.file, partitioning=None)
        assert set(MARKS) < set(table.column_names)
        old = write_part(workspace.log_folder, part.type, part.date, table.drop_columns(list(MARKS)))
        store._parts = [old]
        store.manifest = type(store.manifest)(1, [])
        store.commit()
    assert types_of(workspace) == [0, 0]
    assert LogReader(workspace).records("order").column("_id").to_pylist() == ["a", "b"]
    assert record_schema(shop.order).names[3:5] == list(MARKS)
