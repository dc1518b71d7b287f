"""Columns of vectors, from files of every format and from live rows, to the batches that engines take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.errors import InputError
from bowerbird.log.dead_letters import read_dead_letters
from bowerbird.log.live.write_ahead import open_wal
from bowerbird.log.reader import LogReader
from bowerbird.log.rows.validate import validate_event
from bowerbird.log.rows.vectors import read_vectors, vector_type
from bowerbird.log.sources.ingest import ingest, ingest_table
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from tests.log.shop import NOW

TIME = 1_699_000_000
user = bb.Entity("user", bb.TEXT)
item = bb.Entity("item", bb.INTEGER)
shown = bb.Exposure("shown", [user, item], {})
items = bb.Table("items", item, {"colour": bb.TEXT, "embedding": bb.VECTOR(3)})
FEATURES = {"colour": bb.category(items["colour"]), "embedding": bb.vector(items["embedding"])}


def workspace_of(folder: Path, files: str) -> Workspace:
    source = bb.Source("items", files, items, time=bb.Timestamp("ts", "s"), columns={"embedding": "emb"})
    project = bb.Project("shop", shown, item, user, tables=[items], sources=[source], features=FEATURES)
    (folder / "raw").mkdir()
    return Workspace(folder, project, Settings())


def read(workspace: Workspace) -> dict[int, list[float] | None]:
    """The table's vectors by item, as the log keeps them."""
    table = LogReader(workspace).records("items")
    assert table.schema.field("embedding").type == vector_type(3)
    return dict(zip(table.column("item").to_pylist(), table.column("embedding").to_pylist(), strict=True))


ROWS = [(1, [1.0, 2.5, -3.0]), (2, None), (3, [0.1, -0.0, 1e-3])]
EXPECTED = {1: [1.0, 2.5, -3.0], 2: None, 3: [float(np.float32(0.1)), 0.0, float(np.float32(1e-3))]}
KINDS = [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 3), pa.list_(pa.float16())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parquet_lists_of_any_kind_are_vectors(tmp_path: Path, kind: pa.DataType) -> None:
    vectors = pa.array([None if row is None else np.float16(row).tolist() for _, row in ROWS], pa.list_(pa.float64()))
    workspace = workspace_of(tmp_path, "*.parquet")
    table = pa.table({"item": [1, 2, 3], "ts": [TIME] * 3, "colour": ["red"] * 3, "emb": vectors.cast(kind)})
    pq.write_table(table, tmp_path / "raw" / "items.parquet")
    ingest(workspace, now=NOW, progress=False)
    found = read(workspace)
    assert found[1] == EXPECTED[1] and found[2] is None
    assert found[3] == [float(np.float32(np.float16(value))) + 0.0 for value in ROWS[2][1] or []]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_texts_hold_json_arrays(tmp_path: Path, ending: str) -> None:
    workspace = workspace_of(tmp_path, f"*.{ending}")
    file = tmp_path / "raw" / f"items.{ending}"
    if ending == "csv":
        lines = [f'{number},{TIME},red,"{json.dumps(row) if row else ""}"' for number, row in ROWS]
        file.write_text("\n".join(["item,ts,colour,emb", *lines]) + "\n")
    else:
        rows = [{"item": number, "ts": TIME, "colour": "red", "emb": row} for number, row in ROWS]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(workspace, now=NOW, progress=False)
    assert read(workspace) == EXPECTED


FAULTS = {
    "wrong width": "[1, 2]",
    "wrong type": '[1, "a", 3]',
    "not finite": "[1, 2, 1e300]",
}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_no_vector_is_a_dead_letter_with_its_reason(tmp_path: Path, ending: str) -> None:
    workspace = workspace_of(tmp_path, f"*.{ending}")
    texts = ["[1, 2, 3]", *FAULTS.values(), "null"]
    if ending == "csv":
        lines = [f"{number}\t{TIME}\tred\t{text}" for number, text in enumerate(texts)]
        content = "\n".join(["item\tts\tcolour\temb", *(line.replace("null", "") for line in lines)])
    else:
        content = "\n".join(
            f'{{"item": {number}, "ts": {TIME}, "colour": null, "emb": {text}}}' for number, text in enumerate(texts)
        )
    (tmp_path / "raw" / f"items.{ending}").write_text(content.replace('"a"', "true") + "\n")
    report = ingest(workspace, now=NOW, progress=False)
    assert dict(report.rejected) == dict.fromkeys(FAULTS, 1)
    assert read(workspace) == {0: [1.0, 2.0, 3.0], 4: None}
    details = {letter.reason: letter.detail for letter in read_dead_letters(workspace.dead_letter_folder)}
    assert "expected a list of 3 finite numbers for 'embedding'" in details["wrong width"]


def test_an_array_in_another_column_is_still_no_value(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, "*.jsonl")
    line = json.dumps({"item": 1, "ts": TIME, "colour": [1, 2], "emb": [1, 2, 3]})
    (tmp_path / "raw" / "items.jsonl").write_text(line + "\n")
    assert dict(ingest(workspace, now=NOW, progress=False).rejected) == {"wrong type": 1}


def test_unknown_components_are_not_finite() -> None:
    raw = pa.array([[1.0, None, 2.0], [float("nan"), 1.0, 1.0], [1.0, float("inf"), 1.0], [1.0, 1.0, 1.0]])
    vectors, faults = read_vectors(raw, 3)
    assert vectors.to_pylist() == [None, None, None, [1.0, 1.0, 1.0]]
    assert {reason: rows.tolist() for reason, rows in faults.items()} == {"not finite": [True, True, True, False]}


@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.list_(pa.float64())), pa.list_(pa.bool_()), pa.bool_()])
def test_other_types_are_no_vectors(kind: pa.DataType) -> None:
    values, faults = read_vectors(pa.array([None, None], kind), 2)
    assert values.null_count == 2 and not faults["wrong type"].any()


def test_of_rows_with_one_id_the_content_decides(tmp_path: Path) -> None:
    rows = [([2.0, 0.0, 0.0], "b"), ([1.0, 0.0, 0.0], "a"), ([1.0, 0.0, 0.0], "a"), (None, "a")]
    kept = []
    for place, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0])):
        folder = tmp_path / str(place)
        folder.mkdir()
        workspace = workspace_of(folder, "*.parquet")
        columns = {"item": [1] * 4, "ts": [TIME] * 4, "emb": [rows[at][0] for at in order], "colour": ["x"] * 4}
        ingest_table(workspace, "items", pa.table(columns), now=NOW)
        kept.append(read(workspace))
    assert kept[0] == kept[1] == {1: [1.0, 0.0, 0.0]}


def live_row(number: int, vector: object) -> dict[str, object]:
    return {"type": "items", "item": number, "colour": "blue", "embedding": vector}


@pytest.mark.parametrize("value", [[1, 2], "[1, 2, 3]", [1, 2, True], [1, 2, float("nan")], [1, 2, 1e39], [1, 2, None]])
def test_live_rows_are_checked_as_files_are(tmp_path: Path, value: object) -> None:
    workspace = workspace_of(tmp_path, "*")
    with pytest.raises(InputError, match=r"embedding of 'items' is .* a list of 3 finite numbers"):
        validate_event(workspace.project, live_row(1, value), NOW)


def test_batches_hold_the_known_vectors_imported_and_live(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, "*.csv")
    columns = {"item": [5, 6, 7], "ts": [TIME] * 3, "colour": ["x"] * 3, "emb": [[5, 0, 0], None, [7, 0, 0]]}
    ingest_table(workspace, "items", pa.table(columns), now=NOW)
    with open_wal(workspace) as wal:
        events = [live_row(8, None), live_row(9, [9, 0, 0.1]), live_row(5, [50, 0, 0])]
        wal.append([validate_event(workspace.project, event, NOW) for event in events], NOW)
        wal.sync()
    plan = compile_plan(workspace.project)
    encoder = Encoder(plan)
    batches = [batch.records for batch in LogReader(workspace).batches(plan, encoder)]
    slot = plan.slot("items.embedding")
    found = [(batch.vectors[slot][0].tolist(), batch.vectors[slot][1][:, 0].tolist()) for batch in batches]
    assert found == [([0, 2], [5.0, 7.0]), ([1, 2], [9.0, 50.0])]
    assert batches[1].vectors[slot][1].dtype == np.float32
    live = encoder.encode_events([validate_event(workspace.project, event, NOW) for event in events])
    np.testing.assert_array_equal(live.vectors[slot][0], batches[1].vectors[slot][0])
    np.testing.assert_array_equal(live.vectors[slot][1], batches[1].vectors[slot][1])
    np.testing.assert_array_equal(live.slots, batches[1].slots)


def test_files_ingested_after_going_live_reach_the_write_ahead_log(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, "*")
    with open_wal(workspace) as wal:
        wal.append([validate_event(workspace.project, live_row(1, [1, 2, 3]), NOW)], NOW)
        wal.sync()
    columns = {"item": [2, 3], "ts": [TIME] * 2, "colour": ["x"] * 2, "emb": [[4, 5, 6], None]}
    assert ingest_table(workspace, "items", pa.table(columns), now=NOW).live
    assert read(workspace) == {1: [1.0, 2.0, 3.0], 2: [4.0, 5.0, 6.0], 3: None}
