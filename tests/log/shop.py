"""A project with one wide log and a table, for the tests of the log."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace

NOW = 1_700_000_000_000_000
"""2023-11-14 in microseconds: the tests' present."""

user = bb.Entity("user", bb.TEXT)
item = bb.Entity("item", bb.INTEGER)
shown = bb.Exposure("shown", [user, item], {"page": bb.INTEGER, "price": bb.NUMBER, "mobile": bb.FLAG})
click = bb.Event("click", [user, item], {"price": bb.NUMBER}, delay="1s")
order = bb.Event("order", [user, item], {"amount": bb.NUMBER})
items = bb.Table("items", item, {"colour": bb.TEXT})

HEADER = ["uid", "item", "ts", "page", "price", "mobile", "clicked", "paid", "pay_after"]


def wide_source(files: str = "log*.csv", **changes: Any) -> bb.Source:
    settings: dict[str, Any] = {
        "time": bb.Timestamp("ts", "s"),
        "key": ["uid", "item", "ts"],
        "columns": {"user": "uid"},
        "actions": [
            bb.Action(click, "clicked"),
            bb.Action(order, bb.Field("paid") > 0, after=("pay_after", "s"), columns={"amount": "paid"}),
        ],
    }
    return bb.Source("log", files, shown, **(settings | changes))


def make_workspace(folder: Path, *sources: bb.Source) -> Workspace:
    project = bb.Project("shop", shown, item, user, [click, order], [items], sources=sources or [wide_source()])
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    return Workspace(folder, project, Settings())


def row(uid: object = "ann", item: object = 1, ts: object = 1_699_000_000, **others: object) -> list[object]:
    values = {"page": 1, "price": 2.5, "mobile": 1, "clicked": 0, "paid": 0, "pay_after": 0} | others
    return [uid, item, ts, *values.values()]


def csv_bytes(rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> bytes:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return output.getvalue().encode()


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> None:
    data = csv_bytes(rows, header)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def many_rows(count: int, start: int = 0) -> list[list[object]]:
    return [
        row(
            f"user{number % 17}",
            number % 23,
            1_699_000_000 + number * 7_919 % 400_000,
            clicked=int(number % 3 == 0),
            paid=(number % 5 == 0) * 9.5,
            pay_after=number % 60,
        )
        for number in range(start, start + count)
    ]
