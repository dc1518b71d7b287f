"""A random shop log as files, ingested into a workspace: what the sample tests replay."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird import declare as bb
from bowerbird.declare.project import Project
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.log.sources.ingest import ingest
from tests import shop

START = 1_700_000_000_000  # milliseconds
Row = dict[str, object]

SOURCES = [
    bb.Source("items", "items*.parquet", shop.items, bb.Timestamp("t", "ms"), key=["item", "t"]),
    bb.Source("users", "users*.parquet", shop.users, key=["user"]),
    bb.Source(
        "shown",
        "shown*.parquet",
        shop.exposure,
        bb.Timestamp("t", "ms"),
        key=["user", "item", "t"],
        actions=[
            bb.Action(shop.click, "clicked", after=("click_after", "ms")),
            bb.Action(shop.order, "ordered", after=("order_after", "ms")),
        ],
    ),
]
PROJECT = replace(shop.project, sources=SOURCES)


def random_rows(seed: int, exposures: int = 300) -> dict[str, list[Row]]:
    """Return raw rows by source; many exposures share a millisecond."""
    draw = random.Random(seed)
    colours = ["red", "blue", None]
    items: list[Row] = [
        {"t": START + draw.randrange(0, 4_000_000), "item": f"i{draw.randrange(12)}", "brand": f"b{draw.randrange(4)}",
         "colour": draw.choice(colours), "price": draw.choice([None, draw.random() * 9])}
        for _ in range(40)
    ]  # fmt: skip
    users: list[Row] = [
        {"user": user, "city": f"c{user % 3}", "member": bool(user % 2), "joined": 100.0 + user}
        for user in range(10)
    ]
    shown: list[Row] = [
        {"t": START + draw.randrange(0, 400) * 10_000, "user": draw.randrange(10), "item": f"i{draw.randrange(15)}",
         "page": draw.randrange(3), "position": float(draw.randrange(5)), "clicked": draw.randrange(3) == 0,
         "click_after": draw.randrange(0, 60_000), "ordered": draw.randrange(9) == 0,
         "order_after": draw.randrange(0, 3_000_000), "amount": draw.random() * 20}
        for _ in range(exposures)
    ]  # fmt: skip
    return {"items": items, "users": users, "shown": shown}


def make_workspace(
    folder: Path, rows: dict[str, list[Row]], files: int = 1, project: Project = PROJECT
) -> Workspace:
    """Write the rows as ``files`` Parquet files a source and ingest them."""
    workspace = Workspace(folder, project, Settings())
    workspace.raw_folder.mkdir(parents=True)
    for source, source_rows in rows.items():
        for part in range(files):
            _write(workspace.raw_folder / f"{source}-{part}.parquet", source_rows[part::files], source_rows)
    ingest(workspace, progress=False)
    return workspace


def _write(file: Path, rows: Sequence[Row], all_rows: Sequence[Row]) -> None:
    schema = pa.Table.from_pylist(list(all_rows)).schema
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
