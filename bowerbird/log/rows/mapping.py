"""From raw rows of a source to the records they stand for, a batch at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.durations import microseconds
from bowerbird.declare.records import Action, Event, Source, Table, Timestamp
from bowerbird.errors import InputError
from bowerbird.log.retractions import retraction_ids
from bowerbird.log.rows.arrival import Arrival, read_arrival
from bowerbird.log.rows.coerce import coerce, to_mask
from bowerbird.log.rows.conditions import holds
from bowerbird.log.rows.faults import BAD_TIME, EARLIEST, FUTURE, LATE, MISSING_KEY, TOO_OLD, Faults, Mask
from bowerbird.log.rows.identity import action_id, join_key, times_as_key
from bowerbird.log.rows.lateness import allowed_lateness
from bowerbird.log.rows.timestamps import UNITS, parse_times
from bowerbird.log.schema import AVAILABLE, ID, RETRACTS, TIME, expected, key_types, record_schema, value_types
from bowerbird.log.sources.layout import Layout, condition_column

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mapped:
    """Canonical tables of the accepted rows by record type, and the faults of the others.

    ``late`` counts accepted events by type that came later than declared.
    """

    tables: list[tuple[str, pa.Table]]
    faults: Faults
    late: Counter[str]


@dataclass(frozen=True)
class _Draft:
    """Records of one type for every raw row; ``rows`` says which rows have one."""

    record: Event | Table
    rows: Mask
    ids: pa.Array
    times: Times
    available: Times
    columns: dict[str, pa.Array]


class SourceMapper:
    """Maps batches of one source; a row is accepted with all its actions or rejected whole.

    ``latest`` is the last event time (microseconds) that is not from the future. Raises InputError for a source
    that takes back records and does not tell when.
    """

    def __init__(self, source: Source, latest: int) -> None:
        self._source = source
        self._latest = latest
        self._layout = Layout(source)
        if source.retracts is not None and (source.available is None or not isinstance(source.record, Event)):
            raise InputError(
                f"Source {source.name!r} takes back records by {source.retracts!r}, but not events known to arrive.",
                "Give an event's source available=Timestamp(…), the time at which each row became known.",
            )

    def map(self, batch: pa.RecordBatch) -> Mapped:
        """Return the records of a raw batch; raises InputError where a column's type cannot be a time."""
        faults = Faults(batch.num_rows)
        every = np.ones(batch.num_rows, dtype=np.bool_)
        retracts = self._retracting(batch, faults)
        arrival = read_arrival(batch, self._source, retracts, self._latest, faults)
        main = self._main_draft(batch, every, arrival, faults)
        actions = [self._action_draft(batch, action, main, arrival, faults) for action in self._source.actions]
        drafts = [main, *actions]
        late = [self._late(draft, retracts, faults) for draft in drafts]
        accepted = faults.accepted
        counts: Counter[str] = Counter()
        for draft, rows in zip(drafts, late, strict=True):
            counts[draft.record.name] += int((rows & accepted).sum())
        tables = [(draft.record.name, _table(draft, retracts, draft.rows & accepted)) for draft in drafts]
        return Mapped(tables, faults, +counts)

    def _retracting(self, batch: pa.RecordBatch, faults: Faults) -> Mask:
        column = self._source.retracts
        return np.zeros(batch.num_rows, dtype=np.bool_) if column is None else holds(batch[column], column, faults)

    def _late(self, draft: _Draft, retracts: Mask, faults: Faults) -> Mask:
        """Return bool [n]: events that came later than declared; they are faults where the declaration says so."""
        allowed = allowed_lateness(draft.record)
        if allowed is None:
            return np.zeros(len(draft.rows), dtype=np.bool_)
        usual = draft.times + self._delay(draft.record)
        late = draft.rows & ~retracts & (draft.available - usual > allowed.within)
        if allowed.rejects:
            assert self._source.time is not None
            faults.add(late, LATE, self._source.time.column, f"{draft.record.name!r} may be {allowed.text} late")
        return late

    def _main_draft(self, batch: pa.RecordBatch, every: Mask, arrival: Arrival, faults: Faults) -> _Draft:
        source = self._source
        columns = _read_columns(batch, source.record, self._layout.record_columns(), every, faults)
        times = self._row_times(batch, every, faults)
        available = arrival.of_rows(times, self._delay(source.record), faults)
        return _Draft(source.record, every, self._ids(batch, columns, times, faults), times, available, columns)

    def _delay(self, record: Event | Table) -> int:
        return microseconds(record.delay if self._source.delay is None else self._source.delay)

    def _row_times(self, batch: pa.RecordBatch, every: Mask, faults: Faults) -> Times:
        if self._source.time is None:
            if isinstance(self._source.record, Event):
                raise InputError(
                    f"Source {self._source.name!r} of event {self._source.record.name!r} has no time.",
                    'Give it time=Timestamp("column", unit=…).',
                )
            return np.zeros(batch.num_rows, dtype=np.int64)
        return self._absolute_times(batch, self._source.time, every, faults)

    def _absolute_times(self, batch: pa.RecordBatch, spec: Timestamp, rows: Mask, faults: Faults) -> Times:
        parsed = parse_times(batch[spec.column], spec)
        faults.add(parsed.bad & rows, BAD_TIME, spec.column, _expected_time(spec))
        self._check_range(parsed.times, rows, spec.column, faults)
        return parsed.times

    def _check_range(self, times: Times, rows: Mask, column: str, faults: Faults) -> None:
        faults.add((times < EARLIEST) & rows, TOO_OLD, column, "check the time's unit and zone")
        faults.add((times > self._latest) & rows, FUTURE, column, "check the unit, the zone and the clock")

    def _ids(self, batch: pa.RecordBatch, columns: dict[str, pa.Array], times: Times, faults: Faults) -> pa.Array:
        source = self._source
        if source.id is not None:
            ids, named = coerce(batch[source.id], ColumnType.TEXT).values, source.id
        elif source.key:
            ids, named = join_key([batch[column] for column in source.key]), source.key[0]
        else:
            entities = [columns[name] for name in key_types(source.record)]
            name = pa.array([source.record.name] * batch.num_rows)
            ids, named = (
                join_key([name, *entities, times_as_key(times)]),
                next(iter(key_types(source.record))),
            )
        faults.add(to_mask(ids.is_null()), MISSING_KEY, named, "a part of the row's id is missing")
        return ids

    def _action_draft(
        self, batch: pa.RecordBatch, action: Action, main: _Draft, arrival: Arrival, faults: Faults
    ) -> _Draft:
        rows = holds(batch[condition_column(action.when)], action.when, faults)
        columns = _read_columns(batch, action.event, self._layout.action_columns(action), rows, faults)
        times = self._action_times(batch, action, main, rows, faults)
        available = arrival.of_actions(times, self._delay(action.event))
        return _Draft(action.event, rows, action_id(main.ids, action.event.name), times, available, columns)

    def _action_times(self, batch: pa.RecordBatch, action: Action, main: _Draft, rows: Mask, faults: Faults) -> Times:
        if action.time is not None:
            return self._absolute_times(batch, action.time, rows, faults)
        if action.after is None:
            return main.times
        column, unit = action.after
        elapsed = _elapsed(batch[column], unit)
        faults.add((elapsed < 0) & rows, BAD_TIME, column, f"expected a time in {unit} past the row's, 0 or more")
        times = main.times + np.maximum(elapsed, 0)
        self._check_range(times, rows, column, faults)
        return times


def _elapsed(raw: pa.Array, unit: str) -> Times:
    """Return microseconds, -1 where missing or unreadable; at most 100 years."""
    multiplier, divisor = UNITS[unit]
    numbers = coerce(raw, ColumnType.NUMBER).values.fill_null(-1.0).to_numpy(zero_copy_only=False)
    scaled = np.minimum(np.rint(numbers * (multiplier / divisor)), 100 * 366 * 86_400e6)
    return np.where(numbers < 0, -1.0, scaled).astype(np.int64)


def _expected_time(spec: Timestamp) -> str:
    if spec.unit != "text":
        return f"expected a number of {spec.unit} since 1970"
    return f"expected a time as {spec.format}" if spec.format else "expected an ISO 8601 time"


def _read_columns(
    batch: pa.RecordBatch, record: Event | Table, mapping: dict[str, str], rows: Mask, faults: Faults
) -> dict[str, pa.Array]:
    keys, types = key_types(record), key_types(record) | value_types(record)
    columns = {}
    for name, raw in mapping.items():
        coerced = coerce(batch[raw], types[name])
        for reason, bad in coerced.faults.items():
            faults.add(bad & rows, reason, raw, f"expected {expected(types[name])} for {name!r}")
        if name in keys:
            missing = to_mask(coerced.values.is_null()) & rows
            faults.add(missing, MISSING_KEY, raw, f"{name!r} must be given")
        columns[name] = coerced.values
    return columns


def _table(draft: _Draft, retracts: Mask, keep: Mask) -> pa.Table:
    schema = record_schema(draft.record)
    own = {ID: retraction_ids(draft.ids, retracts), TIME: pa.array(draft.times), AVAILABLE: pa.array(draft.available)}
    own[RETRACTS] = pa.array(retracts, mask=~retracts)
    columns = own | draft.columns
    arrays = [columns.get(field.name, pa.nulls(len(draft.times), field.type)) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    return table if keep.all() else table.filter(pa.array(keep))
