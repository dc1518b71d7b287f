"""A synthetic plan and samples whose truth is known: users like a topic, items have one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.models.task import Task
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.spec import Feature, Node, Plan, SequenceField, Slot
from bowerbird.samples.manifest import DayCount, LabelSummary, SampleManifest

TASKS = (Task("click"), Task("long", given="click"))


def synthetic_plan(length: int = 6) -> Plan:
    """Return a plan with categories of every stage, numbers and two sequences (one shares no vocabulary)."""
    features = [
        Feature("user", "category", "request", 0, "user"),
        Feature("hour", "category", "request", 0, "hour"),
        Feature("item", "category", "item", 0, "item"),
        Feature("topic", "category", "item", 0, "topic"),
        Feature("age", "number", "request", 0),
        Feature("rate", "number", "item", 0),
        Feature("matches", "number", "pair", 0),
        Feature(
            "history",
            "sequence",
            "request",
            0,
            length=length,
            fields=[
                SequenceField("item", True, "item"),
                SequenceField("topic", True, "topic"),
                SequenceField("seconds", False),
            ],
        ),
        Feature("searches", "sequence", "request", 0, length=3, fields=[SequenceField("query", True, "query")]),
    ]
    return Plan(
        project="synthetic",
        slots=[Slot("user", "integer"), Slot("item", "integer")],
        types=[],
        families=[],
        aggregates=[],
        nodes=[Node("value", "request", True)],
        features=features,
        item_slot=1,
        user_slot=0,
    )


def keys(values: np.ndarray) -> np.ndarray:
    """Return well-spread non-zero 64-bit keys of small integers."""
    mixed = (np.asarray(values).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


class World:
    """Users who like one of four topics; items with a topic and a quality."""

    def __init__(self, seed: int = 0, users: int = 60, items: int = 40) -> None:
        self.random = np.random.default_rng(seed)
        self.likes = self.random.integers(0, 4, users)
        self.topics = self.random.integers(0, 4, items)
        self.quality = self.random.normal(size=items)

    def draw(self, rows: int) -> tuple[FeatureBlock, dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return a block, labels (float32, 0/1), users and items of ``rows`` exposures."""
        user = self.random.integers(0, len(self.likes), rows)
        item = self.random.integers(0, len(self.topics), rows)
        meets = self.likes[user] == self.topics[item]
        logit = -1.0 + 2.0 * meets + 0.8 * self.quality[item]
        click = self.random.random(rows) < 1 / (1 + np.exp(-logit))
        long = click & (self.random.random(rows) < np.where(meets, 0.7, 0.2))
        block = FeatureBlock(
            categories={
                "user": keys(user),
                "hour": keys(self.random.integers(0, 24, rows)),
                "item": keys(item + 10_000),
                "topic": keys(self.topics[item] + 20_000),
            },
            numbers={
                "age": np.where(self.random.random(rows) < 0.1, np.nan, 1000.0 * user).astype(np.float32),
                "rate": (0.2 + 0.1 * self.quality[item]).astype(np.float32),
                "matches": meets.astype(np.float32) * self.random.integers(1, 5, rows).astype(np.float32),
            },
            sequences={"history": self._history(user), "searches": self._searches(user)},
        )
        labels = {"click": click.astype(np.float32), "long": long.astype(np.float32)}
        return block, labels, keys(user), keys(item + 10_000)

    def _history(self, user: np.ndarray) -> Ragged:
        lengths = self.random.integers(0, 9, len(user))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        owner = np.repeat(user, lengths)
        candidates = self.random.integers(0, len(self.topics), (len(owner), 4))
        liked = self.topics[candidates] == self.likes[owner][:, None]
        item = candidates[np.arange(len(owner)), liked.argmax(axis=1)]
        return Ragged(
            offsets,
            {
                "item": keys(item + 10_000),
                "topic": keys(self.topics[item] + 20_000),
                "seconds": self.random.exponential(10, len(owner)).astype(np.float32),
            },
            self.random.exponential(3600, len(owner)).astype(np.float32),
        )

    def _searches(self, user: np.ndarray) -> Ragged:
        lengths = self.random.integers(0, 3, len(user))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        owner = np.repeat(user, lengths)
        return Ragged(
            offsets,
            {"query": keys(self.likes[owner] + 30_000)},
            self.random.exponential(600, len(owner)).astype(np.float32),
        )


DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")


def write_samples(
    folder: Path, rows_per_day: int = 600, seed: int = 0, days: tuple[str, ...] = DAYS, group_rows: int | None = None
) -> Path:
    """Write a sample folder as ``bowerbird samples`` does; the last day's latest labels are immature."""
    world = World(seed)
    plan = synthetic_plan()
    counts = []
    for day in days:
        block, labels, user, item = world.draw(rows_per_day)
        start = int(np.datetime64(day, "us").astype(np.int64))
        time = np.sort(start + world.random.integers(0, 86_400_000_000, rows_per_day))
        immature = np.arange(rows_per_day) >= (rows_per_day * 9 // 10 if day == days[-1] else rows_per_day)
        table = _table(plan, block, labels, immature, user, item, time)
        target = folder / f"date={day}"
        target.mkdir(parents=True)
        pq.write_table(table, target / "part-0.parquet", row_group_size=group_rows)
        counts.append(DayCount(day, rows_per_day))
    (folder / "plan.json").write_bytes(plan.to_json())
    (folder / "manifest.json").write_bytes(msgspec.json.encode(_manifest(folder.name, plan, counts)))
    return folder


def _manifest(name: str, plan: Plan, days: list[DayCount]) -> SampleManifest:
    rows = sum(day.rows for day in days)
    return SampleManifest(
        name=name,
        project=plan.project,
        plan=plan.fingerprint,
        aggregates=[],
        rows=rows,
        exposures=rows,
        negative_rate=1.0,
        first_lsn=0,
        last_lsn=rows,
        first_time=0,
        last_time=0,
        log_size=rows,
        labels=[LabelSummary(task.name, rows, 0, 0, task.given) for task in TASKS],
        days=days,
        features=[feature.name for feature in plan.features],
        files={},
        created="2026-01-05T00:00:00",
    )


def _table(
    plan: Plan,
    block: FeatureBlock,
    labels: dict[str, np.ndarray],
    immature: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
) -> pa.Table:
    columns: dict[str, object] = {
        "lsn": np.arange(len(time)),
        "read_lsn": np.arange(len(time)),
        "time": time,
        "user": user,
        "item": item,
        "exposure_id": [str(row) for row in range(len(time))],
        "weight": np.ones(len(time), np.float32),
    }
    for name, values in labels.items():
        columns[f"label.{name}"] = pa.array(values.astype(np.int8), mask=immature)
    for name, values in (*block.categories.items(), *block.numbers.items()):
        columns[f"f.{name}"] = pa.array(values)
    for name, ragged in block.sequences.items():
        for field, values in (*ragged.fields.items(), ("age", ragged.age)):
            columns[f"f.{name}.{field}"] = pa.ListArray.from_arrays(ragged.offsets.astype(np.int32), values)
    return pa.table(columns)
