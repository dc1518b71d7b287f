from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.log import LogReader, ingest, read_dead_letters
from tests.log import shop
from tests.log.shop import NOW

TIME = 1_699_000_000
HEADER = ["id", "user", "item", "time", "arrived", "amount"]


def make_workspace(folder: Path, rows: list[list[object]], record: bb.Event, **changes: Any) -> Workspace:
    source = bb.Source("orders", "orders.csv", record, bb.Timestamp("time", "s"), id="id")
    source = replace(source, **changes)
    (folder / "raw").mkdir(parents=True)
    shop.write_csv(folder / "raw/orders.csv", rows, HEADER)
    project = bb.Project("shop", shop.shown, shop.item, shop.user, [record], [], sources=[source])
    return Workspace(folder, project, Settings())


def order(identifier: str, arrived: object) -> list[object]:
    return [identifier, "ann", 1, TIME, TIME + arrived if isinstance(arrived, int) else arrived, 5.0]


def available(workspace: Workspace) -> list[int]:
    times = LogReader(workspace).records("order").column("_available").to_pylist()
    return [time // 1_000_000 - TIME for time in times]


def test_a_sources_delay_comes_before_the_records(tmp_path: Path) -> None:
    slow = replace(shop.order, delay="1m")
    workspace = make_workspace(tmp_path / "a", [order("a", 0)], slow)
    ingest(workspace, now=NOW)
    assert available(workspace) == [60]
    workspace = make_workspace(tmp_path / "b", [order("a", 0)], slow, delay="5m")
    ingest(workspace, now=NOW)
    assert available(workspace) == [300]


def test_a_told_arrival_comes_before_every_delay(tmp_path: Path) -> None:
    rows = [order("told", 7), order("at once", 0), order("untold", ""), order("before", -1), order("wrong", "x")]
    rows.append(order("future", 2_000_000))
    arrived = bb.Timestamp("arrived", "s")
    workspace = make_workspace(tmp_path, rows, replace(shop.order, delay="1m"), available=arrived)
    report = ingest(workspace, now=NOW)
    assert available(workspace) == [0, 7, 60]
    assert report.rejected == {"available before it happened": 1, "bad time": 1, "event from the future": 1}


def test_actions_come_with_their_row_or_later(tmp_path: Path) -> None:
    source = shop.wide_source(available=bb.Timestamp("seen", "s"))
    workspace = shop.make_workspace(tmp_path, source)
    rows = [[*shop.row(user, clicked=1, paid=1, pay_after=50), TIME + seen] for user, seen in [("ann", 9), ("bob", 70)]]
    shop.write_csv(tmp_path / "raw/log.csv", rows, [*shop.HEADER, "seen"])
    ingest(workspace, now=NOW)
    reader = LogReader(workspace)
    found = {
        (name, row["user"]): row["_available"] // 1_000_000 - TIME
        for name in ("shown", "click", "order")
        for row in reader.records(name).to_pylist()
    }
    assert found == {
        ("shown", "ann"): 9, ("click", "ann"): 9, ("order", "ann"): 50,
        ("shown", "bob"): 70, ("click", "bob"): 70, ("order", "bob"): 70,
    }  # fmt: skip


@pytest.mark.parametrize("beyond", ["apply", "reject"])
def test_what_comes_later_than_declared_is_counted(tmp_path: Path, beyond: str) -> None:
    rows = [order("in time", 360), order("late", 361), order("untold", "")]
    record = replace(shop.order, delay="1m", lateness="5m", beyond=beyond)  # type: ignore[arg-type]
    workspace = make_workspace(tmp_path, rows, record, available=bb.Timestamp("arrived", "s"))
    report = ingest(workspace, now=NOW)
    if beyond == "apply":
        assert available(workspace) == [60, 360, 361]
        assert report.late == {"order": 1} and report.rejected == {}
        assert any("late: order  1 past" in line for line in report.lines())
    else:
        assert available(workspace) == [60, 360]
        assert report.late == {} and report.rejected == {"later than declared": 1}
        (letter,) = read_dead_letters(workspace.dead_letter_folder)
        assert "'order' may be 5m late" in letter.detail


def test_a_retraction_is_never_late(tmp_path: Path) -> None:
    record = replace(shop.order, lateness="5m", beyond="reject")
    changes = {"available": bb.Timestamp("arrived", "s"), "retracts": "gone"}
    workspace = make_workspace(tmp_path, [], record, **changes)
    rows = [[*order("a", 10), 0], [*order("a", 86_400), 1]]
    shop.write_csv(tmp_path / "raw/orders.csv", rows, [*HEADER, "gone"])
    report = ingest(workspace, now=NOW)
    assert report.new == 2 and report.late == {} and report.rejected == {}
