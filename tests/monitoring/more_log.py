"""A random log of the second shop on disk: vectors, late events, retractions, times to live."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.log.sources.ingest import ingest
from tests import shop_more as shop

START = 1_700_000_000_000_000
MINUTE = 60_000_000
TIME, KNOWN = bb.Timestamp("time", "us"), bb.Timestamp("known", "us")
SOURCES = [
    bb.Source("items", "items.jsonl", shop.items, TIME, key=["item", "time"]),
    bb.Source("brands", "brands.jsonl", shop.brands, key=["brand"]),
    bb.Source("users", "users.jsonl", shop.users, key=["user"]),
    bb.Source("shown", "shown.jsonl", shop.exposure, TIME, id="id"),
    bb.Source("clicks", "clicks.jsonl", shop.click, TIME, id="id", available=KNOWN, retracts="cancelled"),
    bb.Source("orders", "orders.jsonl", shop.order, TIME, id="id", available=KNOWN, retracts="cancelled"),
]
PROJECT = replace(shop.project, sources=SOURCES)


def make_workspace(folder: Path, seed: int = 0, events: int = 250) -> Workspace:
    """Write a random log as JSON lines and ingest it."""
    draw = random.Random(seed)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in ("shown", "clicks", "orders")}
    for number in range(events):
        moment = START + draw.randrange(0, 6 * 60) * MINUTE
        base: dict[str, object] = {"user": draw.randrange(5), "item": f"i{draw.randrange(8)}", "time": moment}
        rows["shown"].append({**base, "id": f"x{number}", "page": draw.randrange(3), "position": draw.randrange(4)})
        own = {**base, "known": moment + draw.choice([0, 0, 5, 40]) * MINUTE, "cancelled": False}
        if draw.random() < 0.6:
            rows["clicks"] += _taken_back(draw, {**own, "id": f"c{number}", "page": draw.randrange(3)})
        if draw.random() < 0.4:
            order = {**own, "id": f"o{number}", "coupon": "none", "amount": draw.choice([None, 2.5, 4.25])}
            rows["orders"] += _taken_back(draw, order)
    rows["items"] = [_item(draw) for _ in range(25)]
    rows["brands"] = [{"brand": f"b{n}", "country": f"l{n % 2}", "look": [0.5, float(n)]} for n in range(3)]
    rows["users"] = [{"user": n, "city": f"c{n % 2}", "taste": [float(n), 1.0]} for n in range(4)]
    workspace = Workspace(folder, PROJECT, Settings())
    workspace.raw_folder.mkdir(parents=True)
    for name, lines in rows.items():
        (workspace.raw_folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ingest(workspace, progress=False)
    return workspace


def _taken_back(draw: random.Random, event: dict[str, object]) -> list[dict[str, object]]:
    """Return the event, and every seventh time also what takes it back some minutes later."""
    if draw.randrange(7):
        return [event]
    known = event["known"]
    assert isinstance(known, int)
    return [event, {**event, "cancelled": True, "known": known + draw.randrange(1, 60) * MINUTE}]


def _item(draw: random.Random) -> dict[str, object]:
    return {
        "item": f"i{draw.randrange(8)}",
        "time": START + draw.randrange(0, 300) * MINUTE,
        "brand": f"b{draw.randrange(3)}",
        "colour": draw.choice(["red", "blue", None]),
        "price": draw.random(),
        "embedding": [draw.random()] * 3,
    }
