"""A workspace with what a team brings along: items' vectors, the position as a bias, functions of its own."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.log.sources.ingest import ingest

START = 1_700_000_000_000_000
ITEMS, USERS, WIDTH = 30, 12, 4
FUNCTIONS = """
import numpy as np

STEP = 2.0

def bargain(price, budget):
    return np.where(np.isnan(price), -1.0, (budget - price) / STEP)

def band(price):
    return ["dear" if value > 5 else "cheap" for value in price]

def mood(budget):
    return np.floor(np.nan_to_num(budget)).astype(np.int64)
"""
DECLARATIONS = f"""
from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.TEXT)
items = bb.Table("items", item, {{"embedding": bb.VECTOR({WIDTH}), "price": bb.NUMBER}})
shown = bb.Exposure("shown", [user, item], {{"position": bb.INTEGER, "budget": bb.NUMBER}})
click = bb.Event("click", [user, item])
price, budget = bb.number(items["price"]), bb.number(shown["budget"])
features = {{
    "user": bb.category(user),
    "price": price,
    "embedding": bb.vector(items["embedding"]),
    "position": bb.bias(shown["position"], serve=1),
    "clicks": bb.count(click, by=item, window="1d"),
    "bargain": bb.function("own.prices:bargain", price, budget),
    "band": bb.function("own.prices:band", price, output="category"),
    "mood": bb.function("own.prices:mood", budget, output="category"),
}}
clicked = bb.Label("click", click, within="10m")
project = bb.Project(
    "own", shown, item, user, [click], [items], features=features, labels=[clicked],
    scenes=[bb.Scene("home", user, item, [clicked], weights={{"click": 1.0}}, slate_size=3)],
    sources=[
        bb.Source("shown", "shown.jsonl", shown, bb.Timestamp("time", "us"), id="id",
                  actions=[bb.Action(click, "clicked", after=("delay", "s"))]),
        bb.Source("items", "items.jsonl", items, bb.Timestamp("time", "us"), key=["item", "time"]),
    ],
)
"""


def vector_of(number: int, version: int) -> list[float] | None:
    """Return an item's vector: every fifth item has none, and each gets another one half-way."""
    if number % 5 == 4:
        return None
    drawn = np.random.default_rng(number * 2 + version).normal(size=WIDTH)
    return [round(float(value), 3) for value in drawn]


def make_workspace(folder: Path, days: int = 3, exposures: int = 250) -> Workspace:
    """Write and ingest a log whose clicks follow the items' vectors and the positions."""
    (folder / "raw").mkdir(parents=True)
    (folder / "own").mkdir()
    (folder / "own" / "prices.py").write_text(FUNCTIONS)
    (folder / "project.py").write_text(DECLARATIONS)
    chance = random.Random(5)
    span = days * 86_400_000_000
    rows = [_exposure(chance, place, START + span * place // (days * exposures)) for place in range(days * exposures)]
    items = [
        {"item": f"i{n}", "time": START - 1_000_000 + version * span // 2, "price": None if n == 3 else n / 3,
         "embedding": vector_of(n, version)}
        for n in range(ITEMS) for version in (0, 1)
    ]  # fmt: skip
    for name, records in (("shown", rows), ("items", items)):
        (folder / "raw" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    workspace = load_workspace(folder)
    ingest(workspace, progress=False)
    return workspace


def _exposure(chance: random.Random, place: int, time: int) -> dict[str, object]:
    number, position = chance.randrange(ITEMS), chance.randrange(1, 6)
    vector = vector_of(number, 0) or [0.0]
    rate = 1 / (1 + np.exp(-2 * vector[0] + 0.4 * position))
    return {
        "id": f"x{place}", "user": chance.randrange(USERS), "item": f"i{number}", "time": time, "position": position,
        "budget": round(chance.random() * 9, 2), "clicked": int(chance.random() < rate), "delay": 3,
    }  # fmt: skip
