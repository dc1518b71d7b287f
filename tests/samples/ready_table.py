"""A small table of ready-made columns, as a warehouse would export it, and its declaration."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DECLARATION = """
files = ["rows-*.parquet"]
user = "user_id"
item = "item_id"
date = "day"
weight = "importance"

[labels.click]
column = "clicked"

[labels.order]
given = "click"
may_be_null = true

[features.user_id]
kind = "category"
[features.item_id]
kind = "category"
vocabulary = "item"
[features.member]
kind = "category"
per = "request"
[features.price]
kind = "number"
[features.cover]
kind = "vector"
width = 3
[features.history]
kind = "sequence"
length = 3
age = "seconds_ago"
fields.item = { kind = "category", column = "seen", vocabulary = "item" }
fields.dwell = { kind = "number", column = "dwells" }
"""


def rows(count: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of four days; even items are clicked more often."""
    draw = random.Random(seed)
    made = []
    for at in range(count):
        item, seen = draw.randrange(8), [draw.randrange(8) for _ in range(draw.randrange(6))]
        clicked = int(draw.random() < (0.15 if item % 2 else 0.85))
        made.append(
            {
                "day": f"2024-05-0{1 + 4 * at // count}",
                "user_id": f"u{draw.randrange(12)}",
                "item_id": item,
                "member": draw.choice([True, False, None]),
                "price": draw.choice([None, 10 * draw.random()]),
                "cover": draw.choice([None, [draw.random() for _ in range(3)]]),
                "seen": seen if seen else draw.choice([None, []]),
                "dwells": [float(each) for each in range(len(seen))] if seen else None,
                "seconds_ago": [60.0 * (len(seen) - at) for at in range(len(seen))] if seen else None,
                "importance": draw.choice([1, 2]),
                "clicked": clicked,
                "order": draw.choice([None, clicked]),
            }
        )
    return made


SCHEMA = pa.schema(
    {
        "day": pa.string(),
        "user_id": pa.string(),
        "item_id": pa.int32(),
        "member": pa.bool_(),
        "price": pa.float64(),
        "cover": pa.list_(pa.float32()),
        "seen": pa.list_(pa.int64()),
        "dwells": pa.list_(pa.float64()),
        "seconds_ago": pa.list_(pa.float64()),
        "importance": pa.int8(),
        "clicked": pa.int32(),
        "order": pa.float64(),
    }
)


def write_table(folder: Path, made: list[dict[str, Any]], declaration: str = DECLARATION) -> Path:
    """Write the rows as two Parquet files beside their declaration, and return the declaration's file."""
    half = len(made) // 2
    for name, part in (("rows-0", made[:half]), ("rows-1", made[half:])):
        pq.write_table(pa.Table.from_pylist(part, schema=SCHEMA), folder / f"{name}.parquet", row_group_size=64)
    file = folder / "columns.toml"
    file.write_text(declaration)
    return file
