from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bowerbird.cli.log import dead_letters_command, ingest_command, init_command
from bowerbird.declare import INTEGER, NUMBER, TEXT
from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import InputError
from bowerbird.log import LogReader
from bowerbird.log.scaffolding.infer import Outcome, infer
from bowerbird.plan.check import check


def invoke(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)  # type: ignore[arg-type]


def wide_log(folder: Path) -> Path:
    chance = random.Random(0)
    rows = []
    for at in range(600):
        video = chance.randrange(30)
        rows.append(
            {
                "user_id": f"{chance.randrange(40):03}",
                "video id": video,
                "time_ms": 1_690_000_000_000 + at * 60_000,
                "is_click": int(chance.random() < 0.4),
                "class": chance.randrange(2),
                "duration": video * 1_000 + 0.5,
                "type": ["clip", "film"][video % 2],
                "tab": chance.randrange(4),
                "play_seconds": chance.random() * 100,
                "same": 0,
                "date": 20230722,
                "is_mobile": chance.randrange(2),
                "2nd": chance.choice("abc"),
            }
        )
    path = folder / "log.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_lists_are_left_out_with_a_hint(tmp_path: Path) -> None:
    table = pq.read_table(wide_log(tmp_path))
    path = tmp_path / "with_lists.parquet"
    pq.write_table(table.append_column("embedding", pa.array([[1.0, 2.0]] * table.num_rows)), path)
    reasons = dict(line.split(": ", 1) for line in infer(path).explanations)
    assert reasons["embedding"] == "left out: a list (a table may declare it as a VECTOR)"
    assert len(reasons) == 14


def test_columns_are_placed_with_reasons(tmp_path: Path) -> None:
    guess = infer(wide_log(tmp_path))
    assert (guess.time.column, guess.time.unit) == ("time_ms", "ms")
    assert (guess.user.name, guess.user.column, guess.user.kind) == ("user", "user_id", TEXT)
    assert (guess.item.name, guess.item.column, guess.item.kind) == ("video", "video id", INTEGER)
    assert [(each.name, each.column) for each in guess.outcomes] == [("click", "is_click"), ("class_value", "class")]
    assert {each.name: each.kind for each in guess.item_attributes} == {"duration": NUMBER, "type_value": TEXT}
    assert [each.name for each in guess.context] == ["tab", "is_mobile", "c_2nd"]
    reasons = dict(line.split(": ", 1) for line in guess.explanations)
    assert len(reasons) == 13
    assert reasons["play_seconds"].startswith("left out: by its name")
    assert reasons["same"] == "left out: it has one value in all rows"
    assert "outcome" in reasons["is_click"]


def test_an_inferred_project_checks_and_ingests(tmp_path: Path) -> None:
    log = wide_log(tmp_path)
    folder = tmp_path / "project"
    shown = invoke(init_command, folder, "--from", log)
    assert "is_click: an outcome" in shown.output
    workspace = load_workspace(folder)
    assert [str(problem) for problem in check(workspace.project)] == []
    assert "# What was guessed, and why:" in (folder / "project.py").read_text()
    assert "new" in invoke(ingest_command, "--project", folder).output
    reader = LogReader(workspace)
    assert reader.records("exposure").num_rows == 600
    assert reader.records("click").num_rows == sum(pq.read_table(log).column("is_click").to_pylist())
    assert reader.records("video_table").num_rows == 30
    assert invoke(dead_letters_command, "--project", folder).output == "No row was rejected.\n"


def test_ratings_become_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    lines = [f"{at % 9},{at % 31},{1 + at % 5},{881_250_949 + at * 60}" for at in range(300)]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n")
    guess = infer(path)
    assert (guess.time.column, guess.time.unit) == ("timestamp", "s")
    assert (guess.user.column, guess.item.column) == ("userId", "movieId")
    assert guess.outcomes == [Outcome("liked", "rating", 0.4, 4.0)]
    invoke(init_command, tmp_path / "project", "--from", path)
    workspace = load_workspace(tmp_path / "project")
    assert check(workspace.project) == []
    invoke(ingest_command, "--project", tmp_path / "project")
    assert LogReader(workspace).records("liked").num_rows == 120


def test_a_log_without_outcomes_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "views.jsonl"
    path.write_text("".join(f'{{"uid":"u{at}","sku":"s{at % 3}","at":"2024-05-01T10:{at:02}"}}\n' for at in range(60)))
    shown = invoke(init_command, tmp_path / "project", "--from", path)
    assert "No column is an outcome" in shown.output
    workspace = load_workspace(tmp_path / "project")
    assert check(workspace.project) == []
    invoke(ingest_command, "--project", tmp_path / "project")
    assert LogReader(workspace).size == 60


def test_an_id_column_is_used(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "event_id,user,item,time,clicked\n" + "".join(f"e{at},1,2,{1_690_000_000 + at},{at % 2}\n" for at in range(20))
    )
    assert infer(path).event_id == "event_id"


@pytest.mark.parametrize(
    ("header", "missing"),
    [("a,item,time", "the user"), ("user,b,time", "the item"), ("user,item,c", "a time")],
)
def test_what_cannot_be_found_is_named(tmp_path: Path, header: str, missing: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\n" + "7,8,1690000000\n" * 3)
    with pytest.raises(InputError, match=f"looks like {missing}"):
        infer(path)


def test_the_example_checks_and_ingests_and_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    invoke(init_command, folder)
    workspace = load_workspace(folder)
    assert check(workspace.project) == []
    invoke(ingest_command, "--project", folder)
    reader = LogReader(workspace)
    assert (reader.records("view").num_rows, reader.records("products").num_rows) == (2_000, 60)
    assert reader.records("click").num_rows > 200
    with pytest.raises(InputError, match=r"project\.py exists"):
        invoke(init_command, folder)


def test_dead_letters_are_counted_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    invoke(init_command, folder)
    log = folder / "raw/views.csv"
    log.write_text(log.read_text() + "u1,p1,noon,home,0\nu1,p1\n")
    assert "rejected: bad time  1" in invoke(ingest_command, "--project", folder).output
    listed = invoke(dead_letters_command, "--project", folder).output
    assert "1  views: bad time" in listed and "views.csv:2002: bad time: time = 'noon'" in listed
    only = invoke(dead_letters_command, "--project", folder, "--reason", "unreadable line").output
    assert "views.csv:2003: unreadable line" in only and "noon" not in only
