"""DuckDB's side of bench.features: window functions whose frames begin where tiles do.

A window of length W with tiles of w microseconds covers the current tile up to the record and the W/w - 1 whole ones
before it, so at time t it begins t % w + W - w earlier: the bound of a RANGE frame. One sort for each key, shared by
its named windows. Clicks and exposures are added up together, as one double that holds both counts exactly:
measured against two counts with FILTER and against differences of running sums (``first_value`` over the frame), it is
the fastest by 1.6 and 1.2 times. ``plain`` writes the two counts.
"""

from __future__ import annotations

import time

import duckdb
import numpy as np
import pyarrow as pa

from bench.features.answers import Answers, Sequences
from bench.features.log import CLICK, EXPOSURE, START, LogShape
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

_PACK = 1 << 26
"""A click weighs so much in a packed sum, an exposure 1; there are fewer events than that."""
_ROWS = 1 << 17


def run(task: Task, plain: bool = False) -> Outcome:
    """Answer the task; rows come in any order unless the task wants them in the log's."""
    started = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {task.threads}")
        connection.execute("SET preserve_insertion_order = false")
        order = " ORDER BY time" if task.ordered else ""
        reader = connection.sql(query(task, plain) + order).to_arrow_reader(_ROWS)
        for batch in reader:
            if task.take is not None:
                task.take(_answers(task, pa.table(batch)))
    return Outcome(time.perf_counter() - started)


def query(task: Task, plain: bool = False) -> str:
    """Return the SQL of the task's features, one row per exposure, with its ``time``."""
    sequence = SEQUENCE in task.features
    windows, columns = _windows(), _counted(plain)
    columns["decayed"] = (
        f"sum(CASE kind WHEN {CLICK} THEN {_weight('time')} ELSE 0.0 END) OVER (user_keys ROWS UNBOUNDED PRECEDING)"
    )
    if sequence:
        columns["nth"] = f"count(*) FILTER (kind = {CLICK}) OVER (user_keys ROWS UNBOUNDED PRECEDING)"
    inner = (
        f"SELECT time, kind, user, {_listed(columns)} FROM ({_source(task.shape)}) "
        f"WINDOW {', '.join(f'{name} AS ({frame})' for name, frame in windows.items())}"
    )
    outer = {name: f"({expression})::FLOAT" for name, expression in _read(plain).items() if name in task.features}
    exposures = (
        f"SELECT time, {_listed(outer)} {', user, nth' if sequence else ''} FROM ({inner}) WHERE kind = {EXPOSURE}"
    )
    return _with_sequence(task.shape, exposures) if sequence else exposures


def _source(shape: LogShape) -> str:
    return (
        f"SELECT l.time, l.kind, l.user, l.item, i.category, "
        f"CASE l.kind WHEN {CLICK} THEN {_PACK}.0::DOUBLE ELSE 1.0::DOUBLE END AS packed "
        f"FROM read_parquet('{shape.log}') l JOIN read_parquet('{shape.catalogue}') i USING (item)"
    )


def _windows() -> dict[str, str]:
    windows = {}
    for key in KEYS:
        windows[f"{key.name}_keys"] = f"PARTITION BY {', '.join(key.columns)} ORDER BY time"
        for span in key.spans:
            window = microseconds(span)
            tile = tile_of(window)
            bound = f"(time % {tile} + {window - tile}) PRECEDING"
            windows[f"{key.name}_{span}"] = f"{key.name}_keys RANGE BETWEEN {bound} AND CURRENT ROW"
    return windows


def _frames() -> list[tuple[WindowedKey, str]]:
    return [(key, span) for key in KEYS for span in key.spans]


def _counted(plain: bool) -> dict[str, str]:
    """Return what is added up over the frames."""
    if not plain:
        return {f"packed_{key.name}_{span}": f"sum(packed) OVER {key.name}_{span}" for key, span in _frames()}
    columns = {}
    for key, span in _frames():
        for what, kind in (("clicks", CLICK), ("shown", EXPOSURE)):
            columns[f"n_{counted(key, what, span)}"] = f"count(*) FILTER (kind = {kind}) OVER {key.name}_{span}"
    return columns


def _read(plain: bool) -> dict[str, str]:
    """Return the features as expressions of what was added up; an exposure does not see itself."""
    features = {}
    for key, span in _frames():
        clicks, shown = counted(key, "clicks", span), counted(key, "shown", span)
        packed = f"packed_{key.name}_{span}"
        features[clicks] = f"n_{clicks}" if plain else f"floor({packed} / {_PACK})"
        features[shown] = f"(n_{shown} - 1)" if plain else f"({packed} - floor({packed} / {_PACK}) * {_PACK} - 1)"
    for name in RATED:
        clicks, shown = counts_of(name)
        above = f"{features[clicks]}::DOUBLE + {PRIOR}::DOUBLE * {STRENGTH}::DOUBLE"
        features[f"{name}_rate_7d"] = f"({above}) / ({features[shown]}::DOUBLE + {STRENGTH}::DOUBLE)"
    features[DECAYED] = f"decayed / {_weight('time')}"
    return features


def _weight(column: str) -> str:
    return f"pow(2.0::DOUBLE, ({column} - {START})::DOUBLE / {microseconds(HALF_LIFE)}::DOUBLE)"


def _with_sequence(shape: LogShape, exposures: str) -> str:
    """Return the query with each user's last clicks: lists made at the clicks, joined to exposures by their number."""
    lists = ", ".join(f"list({column}) OVER recent AS {column}s" for column in ("item", "category", "time"))
    clicks = (
        f"SELECT user, row_number() OVER (PARTITION BY user ORDER BY time) AS nth, {lists} "
        f"FROM ({_source(shape)}) WHERE kind = {CLICK} "
        f"WINDOW recent AS (PARTITION BY user ORDER BY time ROWS {LENGTH - 1} PRECEDING)"
    )
    ages = "list_transform(c.times, lambda t: ((e.time - t)::DOUBLE / 1e6)::FLOAT) AS ages"
    return (
        f"SELECT e.* EXCLUDE (user, nth), c.items, c.categorys, {ages} "
        f"FROM ({exposures}) e LEFT JOIN ({clicks}) c ON e.user = c.user AND e.nth = c.nth"
    )


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())


def _answers(task: Task, table: pa.Table) -> Answers:
    numbers = {name: table[name].to_numpy() for name in task.features if name != SEQUENCE}
    sequences = _sequences(table) if SEQUENCE in task.features else None
    return Answers(table["time"].to_numpy(), numbers, sequences)


def _sequences(table: pa.Table) -> Sequences:
    lists = [table[name].combine_chunks() for name in ("items", "categorys", "ages")]
    lengths = np.nan_to_num(lists[0].value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)
    item, category, age = (one.flatten().to_numpy() for one in lists)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Sequences(offsets, keys_of_integers(item), keys_of_integers(category), age)
