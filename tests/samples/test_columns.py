"""Ready-made columns: every value arrives as it is, in any file format; training takes the folder as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.bundles.bundle import verify_golden
from bowerbird.cli.samples import samples_command
from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.block_rows import take_rows
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import NativeEngine
from bowerbird.samples.columns import SPLIT_DATES, FeatureColumn, LabelColumn, ReadyColumns, read_declaration
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.samples.columns_encode import _latest
from bowerbird.samples.manifest import SampleManifest, read_manifest
from bowerbird.serving.given import GivenFeatures
from bowerbird.training.batches.dataset import SampleFolder, SampleRows
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.run import TrainRequest, train_model
from bowerbird.training.trained import load_trained
from tests.samples.ready_table import rows, write_table


def build(folder: Path, made: list[dict[str, Any]]) -> SampleManifest:
    file = write_table(folder, made)
    return build_from_columns(folder / "samples", "ready", read_declaration(file), folder)


def all_rows(folder: Path) -> SampleRows:
    """Return the rows of a dataset of one day."""
    samples = SampleFolder(folder)
    (part,) = samples.read(min(samples.days), max(samples.days))
    return part


def one_day(count: int = 60) -> list[dict[str, Any]]:
    return [{**row, "day": "2024-05-01"} for row in rows(count)]


def test_every_value_arrives(tmp_path: Path) -> None:
    made = one_day()
    manifest = build(tmp_path, made)
    part = all_rows(tmp_path / "samples" / "ready")
    block = part.block
    assert manifest.rows == len(made) and [day.date for day in manifest.days] == ["2024-05-01"]
    for at, row in enumerate(made):
        assert block.categories["user_id"][at] == part.user[at] == key_text(row["user_id"])
        assert block.categories["item_id"][at] == part.item[at] == key_integer(row["item_id"])
        assert block.categories["member"][at] == (0 if row["member"] is None else key_integer(row["member"]))
        assert np.array_equal(block.numbers["price"][at], np.float32(row["price"] or np.nan), equal_nan=True)
        cover = row["cover"] or [np.nan] * 3
        np.testing.assert_array_equal(block.vectors["cover"][at], np.array(cover, np.float32))
        history = block.sequences["history"]
        events = slice(history.offsets[at], history.offsets[at + 1])
        assert history.fields["item"][events].tolist() == [key_integer(each) for each in (row["seen"] or [])[-3:]]
        assert history.fields["dwell"][events].tolist() == (row["dwells"] or [])[-3:]
        assert history.age[events].tolist() == (row["seconds_ago"] or [])[-3:]
        assert part.labels["click"][at] == row["clicked"] and part.weight[at] == row["importance"]
    labels = {label.name: label for label in manifest.labels}
    assert labels["click"].positives == sum(row["clicked"] for row in made)
    assert labels["order"].immature == sum(row["order"] is None for row in made)
    assert labels["order"].given == "click"


def test_csv_gives_the_same_samples_as_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user": ["a", "b", None, "a"],
            "item": [7, 8, 9, 7],
            "price": [0.5, None, 2.0, -1.0],
            "label": [1, 0, 0, 1],
            "part": ["train", "valid", "train", "test"],
            "seen": ["8^9", "", None, "7^8^9"],
        }
    )
    pa_csv.write_csv(table, tmp_path / "rows.csv")
    lists = [[8, 9], None, None, [7, 8, 9]]
    pq.write_table(table.set_column(5, "seen", pa.array(lists, pa.list_(pa.int64()))), tmp_path / "rows.parquet")
    for kind in ("csv", "parquet"):
        (tmp_path / f"{kind}.toml").write_text(
            f"""
            files = ["rows.{kind}"]
            split = "part"
            [labels.label]
            [features]
            user = {{ kind = "category" }}
            item = {{ kind = "category", type = "integer" }}
            price = {{ kind = "number" }}
            [features.history]
            kind = "sequence"
            length = 2
            separator = "^"
            fields.item = {{ kind = "category", column = "seen", type = "integer", vocabulary = "item" }}
            """
        )
        build_from_columns(tmp_path, kind, read_declaration(tmp_path / f"{kind}.toml"), tmp_path)
    for date in SPLIT_DATES.values():
        csv, parquet = (
            pq.read_table(tmp_path / kind / f"date={date}" / "part-0.parquet", partitioning=None)
            for kind in ("csv", "parquet")
        )
        assert str(csv.to_pydict()) == str(parquet.to_pydict())
    manifest = read_manifest(tmp_path / "csv")
    assert {day.date: day.rows for day in manifest.days} == dict(zip(SPLIT_DATES.values(), (2, 1, 1), strict=True))


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=8), st.integers(1, 5), st.booleans())
def test_latest_events_oldest_first(lists: list[list[int]], length: int, newest_first: bool) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
    values = np.array([value for each in lists for value in each], np.int64)
    kept, taken = _latest(offsets, length, newest_first)
    for at, each in enumerate(lists):
        ordered = each[::-1] if newest_first else each
        assert values[taken[kept[at] : kept[at + 1]]].tolist() == ordered[-length:]


def test_a_model_trains_and_answers_what_a_request_gives(tmp_path: Path) -> None:
    made = rows(600)
    build(tmp_path, made)
    samples = SampleFolder(tmp_path / "samples" / "ready")
    request = TrainRequest(
        samples=samples.folder, runs_folder=tmp_path / "runs", model="din", validation="2024-05-04",
        embedding={"minimum_count": 1},
        trainer={"epochs": 10, "batch_size": 64, "learning_rate": 0.02, "average": 0.9, "precision": "float32"},
    )  # fmt: skip
    result = train_model(request)
    model = load_trained(result.folder, samples.plan, result.record.settings)
    assert result.metrics["validation"]["click"]["auc"] > 0.75
    (part,) = samples.read("2024-05-04", "2024-05-04")
    expected = model.logits(take_rows(part.block, np.array([3])))
    row = made[450 + 3]
    block = _served(samples, row)
    for task, logits in model.logits(block).items():
        np.testing.assert_allclose(logits, expected[task], rtol=1e-5, atol=1e-6)
    published = publish(
        PublishRequest(
            run=result.folder, samples_folder=tmp_path / "samples", bundles_folder=tmp_path / "bundles",
            registry_url=f"sqlite:///{tmp_path}/registry.db", name="ready", force=True,
        )
    )  # fmt: skip
    assert verify_golden(published.bundle).score(block).keys() == {"click", "order"}


def _served(samples: SampleFolder, row: dict[str, Any]) -> Any:
    """Return the features of a request for the row's item that gives the row's other columns."""
    encoder = Encoder(samples.plan)
    slots = encoder.encode_request(row["user_id"], {})
    block = NativeEngine(samples.plan).read(0, slots, encoder.encode_items([row["item_id"]]))
    events = zip(row["seen"] or [], row["dwells"] or [], row["seconds_ago"] or [], strict=True)
    history = [{"item": item, "dwell": dwell, "age": age} for item, dwell, age in events]
    request = {"member": row["member"], "history": history}
    candidate = {"price": row["price"], "cover": row["cover"]}
    return GivenFeatures(samples.plan).apply(block, request, {0: candidate}, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no list", "it is a list of events"),
        ([3], "each event is an object of item, dwell"),
        ([{"item": 3, "stay": 1}], "an event has no field 'stay'"),
        ([{"item": "three"}], "Feature 'history' is given as"),
    ],
)
def test_what_is_no_sequence_of_the_plan_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    build(tmp_path, one_day())
    plan = SampleFolder(tmp_path / "samples" / "ready").plan
    block = NativeEngine(plan).read(0, np.zeros(len(plan.slots), np.uint64), np.zeros(1, np.uint64))
    with pytest.raises(InputError, match=message):
        GivenFeatures(plan).apply(block, {"history": value}, {}, 1)


def test_times_and_days_split_alike(tmp_path: Path) -> None:
    moments = pa.array([1_714_521_600, 1_714_608_000 + 5], pa.int64())
    table = pa.table(
        {
            "seconds": moments,
            "stamp": pa.array(moments.cast(pa.timestamp("s")), pa.timestamp("s")),
            "local": moments.cast(pa.timestamp("s")).cast(pa.timestamp("s", "Asia/Shanghai")),
            "day": moments.cast(pa.timestamp("s")).cast(pa.date32()),
            "number": [20240501, 20240502],
            "label": [0, 1],
            "x": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    for column, option in (("seconds", "time"), ("stamp", "time"), ("local", "time"), ("day", "date"),
                           ("number", "date")):  # fmt: skip
        columns = ReadyColumns(
            files=["rows.parquet"], labels={"label": LabelColumn()}, features={"x": FeatureColumn(kind="category")},
            time_unit="s", **{option: column},
        )  # fmt: skip
        manifest = build_from_columns(tmp_path, column, columns, tmp_path)
        assert [day.date for day in manifest.days] == ["2024-05-01", "2024-05-02"], column
        assert manifest.first_time == 1_714_521_600_000_000


def test_rows_without_a_user_stand_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"day": ["2024-05-01"] * 3, "label": [0, 1, 1], "x": [1, 2, 1]}), tmp_path / "rows.parquet")
    columns = ReadyColumns(
        files=["rows.parquet"], labels={"label": LabelColumn()}, features={"x": FeatureColumn(kind="category")},
        date="day",
    )  # fmt: skip
    build_from_columns(tmp_path, "ready", columns, tmp_path)
    assert len(set(all_rows(tmp_path / "ready").user.tolist())) == 3


def test_the_command_builds_and_describes(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(
        "from bowerbird import declare as bb\n"
        'user, item = bb.Entity("user", bb.TEXT), bb.Entity("item", bb.INTEGER)\n'
        'project = bb.Project("shop", bb.Exposure("shown", [user, item]), item, user)\n'
    )
    file = write_table(tmp_path, rows())
    arguments = ["--from-columns", str(file), "--name", "ready", "--project", str(tmp_path)]
    result = CliRunner().invoke(samples_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "click: " in result.output and "2024-05-04" in result.output
    assert read_manifest(tmp_path / "data" / "samples" / "ready").project == "shop"
    with pytest.raises(InputError, match="not rows of a table"):
        CliRunner().invoke(samples_command, [*arguments, "--negatives", "0.5"], catch_exceptions=False)
