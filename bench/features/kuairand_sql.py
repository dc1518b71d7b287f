"""From a plan to DuckDB's SQL: one query for each key, whose reads are joined at the end.

A key's query takes only rows of the types that feed it, and two counts over one frame travel in one double. Lifetime
aggregates run over ROWS, in queries apart from windowed ones, which need fewer rows. Order is by ``place``, in which a
read stands before the events of its instant: a frame ended at ``1 PRECEDING`` in time took up to eight times as long.
"""

from __future__ import annotations

from bench.features.kuairand_log import READ, FlatLog, key_columns, keyed, name_of, summed
from bowerbird.plan.spec import Aggregate, Feed, Test

_SHIFT = 1 << 26
"""What the second of two packed counts is multiplied by: more than the rows of the log."""


class PlanSql:
    """Writes the statements for one plan."""

    def __init__(self, log: FlatLog) -> None:
        self._log = log
        self._plan = log.plan
        self._summed = summed(log.plan)
        self._value: dict[tuple[int, str], str] = {}

    def statements(self) -> list[str]:
        """Return what to execute before the query: a temporary table of reads for each key."""
        return [self._table(f"k{number}", *group) for number, group in enumerate(self._groups())]

    def _groups(self) -> list[tuple[tuple[str, ...], list[int]]]:
        """Return aggregates by key's columns, lifetime ones apart from windowed ones."""
        groups = []
        for columns, indices in keyed(self._plan).items():
            tiles = [index for index in indices if self._plan.aggregates[index].kind == "tiles"]
            others = [index for index in indices if index not in tiles]
            groups += [(columns, part) for part in (others, tiles) if part]
        return groups

    def query(self) -> str:
        """Return the query of the features, one row per read with its number ``read``; after ``statements``."""
        features = [f"({self._node(feature.node)})::FLOAT AS {feature.name}" for feature in self._plan.features]
        tables = [f"k{number}" for number in range(len(self._groups()))]
        joins = "".join(f" JOIN {table} USING (read)" for table in tables[1:])
        return f"SELECT read, {', '.join(features)} FROM {tables[0]}{joins}"

    def _table(self, name: str, columns: tuple[str, ...], aggregates: list[int]) -> str:
        types = sorted({feed.type for index in aggregates for feed in self._plan.aggregates[index].feeds})
        partition = f"PARTITION BY {', '.join(columns)} " if columns else ""
        frames: dict[str, str] = {}
        outputs: list[str] = []
        counts: dict[str, list[int]] = {}
        for index in aggregates:
            aggregate = self._plan.aggregates[index]
            frame = f"f{aggregate.window}"
            frames[frame] = f"{partition}ORDER BY place {_frame(aggregate)}"
            if aggregate.kind == "last":
                outputs.append(f"time - max(CASE WHEN {self._fed(aggregate)} THEN time END) OVER {frame} AS a{index}")
                self._value[index, "since"] = f"a{index} / 1e6::DOUBLE"
                continue
            counts.setdefault(frame, []).append(index)
            if index in self._summed:
                outputs.append(f"sum({self._amount(aggregate)}) OVER {frame} AS s{index}")
        for frame, indices in counts.items():
            outputs += [self._packed(frame, indices[at : at + 2]) for at in range(0, len(indices), 2)]
        windows = ", ".join(f"{frame} AS ({meaning})" for frame, meaning in frames.items())
        rows = f"SELECT * FROM log WHERE type IN ({', '.join(map(str, [*types, READ]))})"
        inner = f"SELECT type, read, time, {', '.join(outputs)} FROM ({rows}) WINDOW {windows}"
        return f"CREATE TEMP TABLE {name} AS SELECT * EXCLUDE (type, time) FROM ({inner}) WHERE type = {READ}"

    def _packed(self, frame: str, indices: list[int]) -> str:
        column = "c" + "_".join(map(str, indices))
        whole = f"coalesce({column}, 0)"
        self._value[indices[0], "count"] = f"{whole}" if len(indices) == 1 else f"({whole} % {_SHIFT})"
        weights = [f"CASE WHEN {self._fed(self._plan.aggregates[indices[0]])} THEN 1.0::DOUBLE ELSE 0.0 END"]
        if len(indices) == 2:
            self._value[indices[1], "count"] = f"floor({whole} / {_SHIFT})"
            weights.append(
                f"CASE WHEN {self._fed(self._plan.aggregates[indices[1]])} THEN {_SHIFT}.0::DOUBLE ELSE 0.0 END"
            )
        return f"sum({' + '.join(weights)}) OVER {frame} AS {column}"

    def _fed(self, aggregate: Aggregate) -> str:
        present = [f"{column} <> 0" for column in key_columns(aggregate)]
        feeds = " OR ".join(f"({self._feed(feed)})" for feed in aggregate.feeds)
        return " AND ".join([*present, f"({feeds})"])

    def _feed(self, feed: Feed) -> str:
        value = [f"NOT isnan({name_of(feed.value)})"] if feed.value else []
        return " AND ".join([f"type = {feed.type}", *map(self._test, feed.tests), *value])

    def _test(self, test: Test) -> str:
        column = name_of(test.path)
        if test.numbers:
            listed = ", ".join(f"{number!r}::DOUBLE" for number in test.numbers)
            return f"{column} IN ({listed})" if test.comparison == "in" else f"{column} {test.comparison} {listed}"
        codes = ", ".join(str(self._log.codes[column].get(key, -1)) for key in test.keys)
        return f"({column} NOT IN (0, {codes}))" if test.comparison == "!=" else f"{column} IN ({codes})"

    def _amount(self, aggregate: Aggregate) -> str:
        values = {name_of(feed.value) for feed in aggregate.feeds if feed.value}
        assert len(values) == 1, "one value column for an aggregate"
        fixed = f"round_even({values.pop()} * {aggregate.scale}, 0)"
        return f"CASE WHEN {self._fed(aggregate)} THEN {fixed} ELSE 0.0 END"

    def _node(self, index: int) -> str:
        node = self._plan.nodes[index]
        if node.op == "read":
            return self._read(node.aggregate, node.what)
        inputs = [f"({self._node(below)})" for below in node.inputs]
        if node.op == "rate":
            prior, strength = (f"{number!r}::DOUBLE" for number in node.numbers)
            below = f"({inputs[1]} + {strength})"
            return f"CASE WHEN {below} > 0 THEN ({inputs[0]} + {prior} * {strength}) / {below} ELSE 'nan'::DOUBLE END"
        assert node.op == "log1p", node.op
        return f"ln(1.0::DOUBLE + {inputs[0]})"

    def _read(self, aggregate: int, what: str) -> str:
        if what in ("count", "since"):
            return self._value[aggregate, what]
        total = f"coalesce(s{aggregate}, 0) / {self._plan.aggregates[aggregate].scale}.0::DOUBLE"
        count = self._value[aggregate, "count"]
        return total if what == "sum" else f"CASE WHEN {count} > 0 THEN {total} / {count} ELSE 'nan'::DOUBLE END"


def _frame(aggregate: Aggregate) -> str:
    if aggregate.kind != "tiles":
        return "ROWS UNBOUNDED PRECEDING"
    back = f"(2 * (time % {aggregate.tile} + {aggregate.window - aggregate.tile}))"
    return f"RANGE BETWEEN {back} PRECEDING AND CURRENT ROW"
