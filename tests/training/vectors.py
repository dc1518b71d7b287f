"""Synthetic samples whose items are known by a vector alone: what is learned of them is learned from it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Feature, Plan
from bowerbird.samples.manifest import LabelSummary, SampleManifest
from bowerbird.samples.writer import SampleWriter, write_manifest
from tests.training.synthetic import World, keys, synthetic_plan

WIDTH = 5
VECTOR = Feature("embedding", "vector", "item", 0, width=WIDTH)


def plan_with_vector() -> Plan:
    """Return the synthetic plan with an item's vector beside its features."""
    plan = synthetic_plan()
    return msgspec.structs.replace(plan, features=[*plan.features, VECTOR])


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    """Return float32 [rows, WIDTH], every fourth row unknown."""
    drawn = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    drawn[3::4] = np.nan
    return drawn


def draw(rows: int) -> FeatureBlock:
    """Return a block of ``plan_with_vector``."""
    block, *_ = World().draw(rows)
    block.vectors["embedding"] = vectors(rows)
    return block


def plan_of_vector_alone() -> Plan:
    """Return a plan with users and items' vectors, and nothing else of the items."""
    plan = synthetic_plan()
    return msgspec.structs.replace(plan, features=[plan.feature("user"), VECTOR])


def write_vector_samples(folder: Path, days: int = 3, rows_per_day: int = 800) -> Path:
    """Write samples whose clicks follow the first component of the item's vector."""
    plan = plan_of_vector_alone()
    random = np.random.default_rng(3)
    with SampleWriter(folder, plan) as writer:
        for day in range(days):
            vector = vectors(rows_per_day, seed=day)
            user = keys(random.integers(0, 20, rows_per_day))
            logit = 3 * np.nan_to_num(vector[:, 0] / np.linalg.norm(vector, axis=1))
            click = random.random(rows_per_day) < 1 / (1 + np.exp(-logit))
            block = FeatureBlock(categories={"user": user}, vectors={"embedding": vector})
            writer.write(_base(day, user, click), block)
        manifest = _manifest(folder.name, plan, writer)
    write_manifest(folder, plan, manifest)
    return folder


def _base(day: int, user: np.ndarray, click: np.ndarray) -> pa.Table:
    rows = len(user)
    start = int(datetime(2026, 1, 1 + day, tzinfo=UTC).timestamp()) * 1_000_000
    return pa.table(
        {
            "lsn": np.arange(rows),
            "read_lsn": np.arange(rows),
            "time": start + np.arange(rows),
            "user": user,
            "item": keys(np.arange(rows)),
            "exposure_id": [f"{day}-{row}" for row in range(rows)],
            "weight": np.ones(rows, np.float32),
            "label.click": pa.array(click.astype(np.int8)),
        }
    )


def _manifest(name: str, plan: Plan, writer: SampleWriter) -> SampleManifest:
    rows = sum(day.rows for day in writer.days)
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
        labels=[LabelSummary("click", rows, 0, 0)],
        days=writer.days,
        features=[feature.name for feature in plan.features],
        files={},
        created="2026-01-05T00:00:00",
    )
