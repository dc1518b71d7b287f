"""The label join: which exposures led to which events within their attribution windows, on DuckDB."""

from __future__ import annotations

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.declare.columns import Condition
from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.records import Event, FilteredEvent
from bowerbird.declare.scenes import Label
from bowerbird.log.reader import LogReader

Outcome = npt.NDArray[np.int8]
IMMATURE = -1
_COMPARISONS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "IN"}


def event_of(label: Label) -> Event:
    """Return the event type that a label counts."""
    return label.event.event if isinstance(label.event, FilteredEvent) else label.event


def join_labels(
    project: Project, reader: LogReader, exposures: pa.Table, frontier: int
) -> dict[str, Outcome]:
    """Return int8 [exposures] for each label: 1, 0, or IMMATURE where its window has not closed.

    An event counts for the last exposure of the same user and item (and slate, where both name one) that
    precedes it, if it is not older than the label's window; one that was taken back never does. ``frontier`` is the
    time (microseconds) up to which the log is complete.
    """
    connection = duckdb.connect()
    numbered = _keys_of(project, exposures).append_column("row", pa.array(np.arange(exposures.num_rows)))
    connection.register("numbered", numbered)
    connection.execute(_ONE_EXPOSURE_A_MOMENT)
    times = exposures.column("_time").to_numpy()
    return {
        label.name: _join(connection, project, reader, label, times, frontier) for label in project.labels
    }


def _keys_of(project: Project, table: pa.Table) -> pa.Table:
    names = ["_time", project.user.name, project.item.name, "slate_id"]
    return pa.table([table.column(name) for name in names], names=["time", "user", "item", "slate"])


def _join(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    reader: LogReader,
    label: Label,
    times: npt.NDArray[np.int64],
    frontier: int,
) -> Outcome:
    event = event_of(label)
    within = microseconds(label.within)
    matching = _keys_of(project, _filtered(connection, label, reader.records(event.name)))
    connection.register("events", matching)
    rows = connection.execute(_QUERY, [within]).fetchnumpy()["row"]
    outcome = np.zeros(len(times), dtype=np.int8)
    outcome[rows.astype(np.int64)] = 1
    outcome[times + within + latest_arrival(project, event) > frontier] = IMMATURE
    return outcome


def latest_arrival(project: Project, event: Event) -> int:
    """Return how long after it happened (microseconds) an event may become known: its delay and lateness."""
    sources = [
        source
        for source in project.sources
        if event.name in (source.record.name, *(action.event.name for action in source.actions))
    ]
    delays = [event.delay, *(source.delay for source in sources if source.delay is not None)]
    return max(map(microseconds, delays)) + microseconds(event.lateness or "0s")


_ONE_EXPOSURE_A_MOMENT = """
CREATE TABLE exposures AS
SELECT min(row) AS row, time, "user", item, slate FROM numbered GROUP BY time, "user", item, slate
"""

_QUERY = """
WITH free AS (
    SELECT x.row, e.time - x.time AS elapsed
    FROM (SELECT * FROM events WHERE slate IS NULL) e
    ASOF JOIN exposures x ON e."user" = x."user" AND e.item = x.item AND e.time >= x.time
), named AS (
    SELECT x.row, e.time - x.time AS elapsed
    FROM (SELECT * FROM events WHERE slate IS NOT NULL) e
    ASOF JOIN (SELECT * FROM exposures WHERE slate IS NOT NULL) x
    ON e.slate = x.slate AND e."user" = x."user" AND e.item = x.item AND e.time >= x.time
)
SELECT DISTINCT row FROM (SELECT * FROM free UNION ALL SELECT * FROM named) WHERE elapsed <= ?
"""


def _filtered(connection: duckdb.DuckDBPyConnection, label: Label, records: pa.Table) -> pa.Table:
    conditions = label.event.conditions if isinstance(label.event, FilteredEvent) else ()
    if not conditions:
        return records
    connection.register("candidates", records)
    tests, parameters = [], []
    for condition in conditions:
        test, values = _sql_of(condition)
        tests.append(test)
        parameters.extend(values)
    return connection.execute(
        f"SELECT * FROM candidates WHERE {' AND '.join(tests)}", parameters
    ).to_arrow_table()


def _sql_of(condition: Condition) -> tuple[str, list[object]]:
    column = '"' + condition.column.column.replace('"', '""') + '"'
    if condition.comparison == "in":
        return f"{column} IN ({', '.join('?' for _ in condition.value)})", list(condition.value)
    return f"{column} {_COMPARISONS[condition.comparison]} ?", [condition.value]
