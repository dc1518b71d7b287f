"""The generated log that bench.features replays: exposures and clicks with skewed keys, written once to Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.common import WORK

Integers = npt.NDArray[np.int64]
START = 1_709_251_200_000_000
"""The log's first instant: 2024-03-01 UTC in microseconds since 1970."""
DAY = 86_400_000_000
EXPOSURE, CLICK = 0, 1
"""Values of the log's column ``kind``."""
_CLICK_SHARE = 0.15
_ROW_GROUP = 1 << 20


@dataclass(frozen=True)
class LogShape:
    """How many events over how many days, and how many keys, drawn from power laws of these exponents."""

    events: int
    days: float = 30.0
    users: int = 1_000_000
    items: int = 200_000
    categories: int = 50
    user_skew: float = 0.6
    item_skew: float = 0.8
    seed: int = 7

    @property
    def folder(self) -> Path:
        """Return where the log's files stand."""
        return WORK / f"features-{self.events}-{self.users}-{self.items}-{self.categories}-{self.seed}"

    @property
    def log(self) -> Path:
        """Return the events' file: ``time`` int64 ascending and unique, ``kind`` int8, ``user``, ``item`` int64."""
        return self.folder / "log.parquet"

    @property
    def catalogue(self) -> Path:
        """Return the items' file: ``item``, ``category`` int64."""
        return self.folder / "items.parquet"


def written(shape: LogShape) -> LogShape:
    """Write the log's files unless they are there; returns the shape."""
    if shape.log.is_file():
        return shape
    shape.folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(catalogue(shape), shape.catalogue)
    temporary = shape.log.with_suffix(".tmp")
    table = pa.Table.from_batches(list(batches(shape, shape.events)))
    pq.write_table(table, temporary, row_group_size=_ROW_GROUP, compression="snappy")
    temporary.rename(shape.log)
    return shape


def catalogue(shape: LogShape) -> pa.Table:
    """Return every item with its category; small categories are many."""
    generator = np.random.default_rng([shape.seed, 1])
    category = _power_law(generator, shape.items, shape.categories, 0.5)
    return pa.table({"item": np.arange(shape.items, dtype=np.int64), "category": category})


def batches(shape: LogShape, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the log in batches of ``rows`` events; the batches, and so the events, depend on ``rows``."""
    last = START - 1
    for number, first in enumerate(range(0, shape.events, rows)):
        count = min(rows, shape.events - first)
        generator = np.random.default_rng([shape.seed, 2, number])
        begin = START + int(DAY * shape.days * first / shape.events)
        span = int(DAY * shape.days * count / shape.events)
        batch = _batch(shape, generator, count, begin, span, last)
        last = int(batch["time"][-1].as_py())
        yield batch


def _batch(
    shape: LogShape, generator: np.random.Generator, count: int, begin: int, span: int, last: int
) -> pa.RecordBatch:
    """Return ``count`` events from ``begin`` on, later than ``last``: exposures, and the clicks that follow some."""
    clicks = round(count * _CLICK_SHARE)
    shown = count - clicks
    user = _spread(_power_law(generator, shown, shape.users, shape.user_skew), shape.users)
    item = _spread(_power_law(generator, shown, shape.items, shape.item_skew), shape.items)
    time = begin + np.sort(generator.integers(0, span, shown))
    clicked = generator.choice(shown, clicks, replace=False)
    after = time[clicked] + generator.integers(1_000_000, 60_000_000, clicks)
    times = np.concatenate([time, after])
    order = np.argsort(times, kind="stable")
    rank = np.arange(count)
    ascending = np.maximum.accumulate(np.maximum(times[order], last + 1) - rank) + rank
    return pa.RecordBatch.from_pydict(
        {
            "time": ascending,
            "kind": np.repeat(np.array([EXPOSURE, CLICK], np.int8), [shown, clicks])[order],
            "user": np.concatenate([user, user[clicked]])[order],
            "item": np.concatenate([item, item[clicked]])[order],
        }
    )


def _power_law(generator: np.random.Generator, count: int, size: int, exponent: float) -> Integers:
    """Draw ranks 0..size-1 whose frequency falls as (rank + 1) ** -exponent."""
    uniform = generator.random(count)
    ranks = (1.0 + uniform * ((size + 1.0) ** (1.0 - exponent) - 1.0)) ** (1.0 / (1.0 - exponent))
    return np.minimum(ranks.astype(np.int64) - 1, size - 1)


def _spread(ranks: Integers, size: int) -> Integers:
    """Return ids in place of ranks, so that frequent keys do not stand side by side."""
    return ranks * 7_368_787 % size
