"""Polars' side of bench.features: sorted composite keys, running counts and merging joins.

Records ascend in time, so a window's first instant is a row number. Rows are sorted by one integer (key, row), which
Polars does by radix; the window's first record of that key is found by a ``join_asof`` of (key, first row), both
sides sorted: a merge without hashing. Counts are differences of one running sum. It relies on integer keys
that fit 37 bits beside the row number. ``plain`` joins on (key, time) with ``by=`` instead, as one would write it
first; binary search (``search_sorted``) in place of the merge took 1.8 times as long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import polars as pl

from bench.features.answers import Answers, Sequences
from bench.features.log import CLICK, START
from bench.features.plan import (
    DECAYED,
    HALF_LIFE,
    KEYS,
    LENGTH,
    PRIOR,
    RATED,
    SEQUENCE,
    STRENGTH,
    WindowedKey,
    counted,
    counts_of,
)
from bench.features.task import Outcome, Task
from bowerbird.declare.durations import microseconds
from bowerbird.kernels.keys import keys_of_integers
from bowerbird.plan.aggregates import tile_of

_ROW_BITS = 26
_CATEGORY_BITS = 10


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order of (key, row): ``composite``, ``row``, and how many clicks precede each (and all, at the end).

    ``shown`` are the exposures among them: ``composite``, ``row`` and their position ``at``.
    """

    composite: pl.Series
    clicks: pl.Series
    shown: pl.DataFrame
    clicked_rows: pl.Series


def run(task: Task, plain: bool = False) -> Outcome:
    """Answer the task in memory; the process must have been started with POLARS_MAX_THREADS."""
    if pl.thread_pool_size() != task.threads:
        raise SystemExit(
            f"Polars has {pl.thread_pool_size()} threads; start it with POLARS_MAX_THREADS={task.threads}."
        )
    started = time.perf_counter()
    log = pl.read_parquet(task.shape.log)
    category = pl.read_parquet(task.shape.catalogue).sort("item")["category"]
    log = log.with_columns(category=category.gather(log["item"]), click=pl.col("kind") == CLICK)
    columns: list[pl.DataFrame] = []
    sequences = None
    first_rows = {span: _first_rows(log["time"], span) for key in KEYS for span in key.spans}
    for key in KEYS:
        rows = _sorted(log, key)
        counts = _counted_plainly(key, rows, log) if plain else _counted(key, rows, first_rows)
        if key.name == "user":
            last, nth = _last_click(log, rows)
            counts = counts.with_columns(decayed=_decayed(log, rows, last, nth), last=last, nth=nth)
        columns.append(_back(log, rows, counts))
    answers = _features(pl.concat(columns, how="horizontal"), log)
    if SEQUENCE in task.features:
        sequences = _sequences(log, answers)
    answers = answers.select("time", *[name for name in task.features if name != SEQUENCE])
    seconds = time.perf_counter() - started
    if task.take is not None:
        task.take(_answers(answers, sequences))
    return Outcome(seconds)


def _first_rows(times: pl.Series, span: str) -> pl.Series:
    """Return the first row that each row's window may count."""
    window = microseconds(span)
    tile = tile_of(window)
    tiles = (times // tile).cast(pl.Int32)
    earliest, latest = int(tiles[0]), int(tiles[-1])
    edges = pl.int_range(earliest, latest + 1, eager=True) * tile - (window - tile)
    return times.search_sorted(edges, side="left").cast(pl.Int64).gather(tiles - earliest)


def _sorted(log: pl.DataFrame, key: WindowedKey) -> _Sorted:
    number = log[key.columns[0]].cast(pl.Int64)
    for column in key.columns[1:]:
        number = number * (1 << _CATEGORY_BITS) + log[column]
    composite = (number * (1 << _ROW_BITS) + pl.int_range(len(log), eager=True)).sort()
    row = (composite & ((1 << _ROW_BITS) - 1)).cast(pl.UInt32)
    click = log["click"].gather(row)
    running = pl.concat([pl.Series([0], dtype=pl.Int32), click.cast(pl.Int32).cum_sum()])
    shown = pl.DataFrame(
        {"composite": composite, "row": row, "at": pl.int_range(len(log), dtype=pl.Int32, eager=True)}
    ).filter(~click)
    return _Sorted(composite.set_sorted(), running, shown, row.filter(click))


def _counted(key: WindowedKey, rows: _Sorted, first_rows: dict[str, pl.Series]) -> pl.DataFrame:
    """Return the key's counts, for exposures in sorted order."""
    places = pl.LazyFrame(
        {"composite": rows.composite, "start": pl.int_range(len(rows.composite), dtype=pl.Int32, eager=True)}
    ).set_sorted("composite")
    base = rows.shown["composite"] - rows.shown["row"].cast(pl.Int64)
    merges = [
        pl.LazyFrame({"edge": base + first_rows[span].gather(rows.shown["row"])})
        .set_sorted("edge")
        .join_asof(places, left_on="edge", right_on="composite", strategy="forward")
        .select("start")
        for span in key.spans
    ]
    at, now = rows.shown["at"], rows.clicks.gather(rows.shown["at"])
    counts: dict[str, pl.Series] = {}
    for span, found in zip(key.spans, pl.collect_all(merges), strict=True):
        start = found["start"]
        clicks = now - rows.clicks.gather(start)
        counts[counted(key, "clicks", span)] = clicks
        counts[counted(key, "shown", span)] = at - start - clicks
    return pl.DataFrame(counts)


def _counted_plainly(key: WindowedKey, rows: _Sorted, log: pl.DataFrame) -> pl.DataFrame:
    """Return the same from joins on (key, time)."""
    columns = list(key.columns)
    every = log.select(*columns, "time").with_row_index().sort(*columns, "index").drop("index")
    places = every.lazy().with_columns(start=pl.int_range(pl.len(), dtype=pl.Int32)).sort("time")
    at, now = rows.shown["at"], rows.clicks.gather(rows.shown["at"])
    shown = every[at].with_columns(at=at)
    counts: dict[str, pl.Series] = {}
    for span in key.spans:
        window = microseconds(span)
        tile = tile_of(window)
        edges = shown.lazy().with_columns(edge=pl.col("time") // tile * tile - (window - tile)).sort("edge")
        merged = edges.join_asof(
            places, left_on="edge", right_on="time", by=columns, strategy="forward", check_sortedness=False
        )
        start = merged.sort("at").collect()["start"]
        clicks = now - rows.clicks.gather(start)
        counts[counted(key, "clicks", span)] = clicks
        counts[counted(key, "shown", span)] = at - start - clicks
    return pl.DataFrame(counts)


def _last_click(log: pl.DataFrame, rows: _Sorted) -> tuple[pl.Series, pl.Series]:
    """Return for exposures in sorted order where their user's last click stands among all users' clicks, and
    how many clicks of that user there are up to it; 0 of them where there is none.
    """
    users = log["user"].gather(rows.clicked_rows)
    nth = users.to_frame().select(pl.int_range(1, pl.len() + 1).over("user")).to_series()
    last = rows.clicks.gather(rows.shown["at"]) - 1
    own = users.gather(last.clip(0)) == log["user"].gather(rows.shown["row"])
    return last, pl.select(pl.when(own & (last >= 0)).then(nth.gather(last.clip(0))).otherwise(0)).to_series()


def _weight(times: pl.Series) -> pl.Series:
    exponent = (times - START).cast(pl.Float64) / float(microseconds(HALF_LIFE))
    return pl.select(pl.lit(2.0).pow(exponent)).to_series()


def _decayed(log: pl.DataFrame, rows: _Sorted, last: pl.Series, nth: pl.Series) -> pl.Series:
    clicks = pl.DataFrame(
        {"user": log["user"].gather(rows.clicked_rows), "weight": _weight(log["time"].gather(rows.clicked_rows))}
    )
    running = clicks.select(pl.col("weight").cum_sum().over("user"))["weight"]
    value = running.gather(last.clip(0)) / _weight(log["time"].gather(rows.shown["row"]))
    return pl.select(pl.when(nth > 0).then(value).otherwise(0.0)).to_series()


def _back(log: pl.DataFrame, rows: _Sorted, columns: pl.DataFrame) -> pl.DataFrame:
    """Return columns of exposures in the order of the log instead of the sorted one."""
    place = pl.zeros(len(log), dtype=pl.UInt32, eager=True)
    place = place.scatter(rows.shown["row"], pl.int_range(len(rows.shown), dtype=pl.UInt32, eager=True))
    return columns.select(pl.all().gather(place.filter(~log["click"])))


def _features(columns: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    rates = {}
    for name in RATED:
        clicks, shown = counts_of(name)
        above = pl.col(clicks).cast(pl.Float64) + PRIOR * STRENGTH
        rates[f"{name}_rate_7d"] = above / (pl.col(shown).cast(pl.Float64) + STRENGTH)
    kept = ("last", "nth")
    made = columns.with_columns(**rates).rename({"decayed": DECAYED})
    exposures = log.filter(~pl.col("click")).select("time")
    return made.select(pl.all().exclude(kept).cast(pl.Float32), *kept).hstack(exposures)


def _sequences(log: pl.DataFrame, answers: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the lengths of the users' last clicks and, end to end, their items, categories and ages."""
    clicks = log.filter("click").sort("user", "time", maintain_order=True).select("item", "category", "time")
    length = answers["nth"].clip(upper_bound=LENGTH)
    end = answers["last"].cast(pl.Int64) + 1
    ranges = (
        pl.select(exposed=answers["time"], place=pl.int_ranges(end - length, end, dtype=pl.UInt32))
        .filter(length > 0)
        .explode("place")
    )
    found = clicks.select(pl.all().gather(ranges["place"])).with_columns(exposed=ranges["exposed"])
    age = ((pl.col("exposed") - pl.col("time")).cast(pl.Float64) / 1e6).cast(pl.Float32)
    return length, found.select("item", "category", age=age)


def _answers(answers: pl.DataFrame, sequences: tuple[pl.Series, pl.DataFrame] | None) -> Answers:
    numbers = {name: answers[name].to_numpy() for name in answers.columns if name != "time"}
    times = answers["time"].to_numpy()
    if sequences is None:
        return Answers(times, numbers)
    length, found = sequences
    offsets = pl.concat([pl.Series([0], dtype=pl.Int64), length.cast(pl.Int64).cum_sum()]).to_numpy()
    item, category = (keys_of_integers(found[name].to_numpy()) for name in ("item", "category"))
    return Answers(times, numbers, Sequences(offsets, item, category, found["age"].to_numpy()))
