"""Erasure: what is left equals a log without the user, no other record moves, and an interruption does no harm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bowerbird.cli.main import run
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.errors import InputError, StorageError, UnavailableError
from bowerbird.kernels.keys import key_integer
from bowerbird.log.dead_letters import read_dead_letters
from bowerbird.log.imported.manifest import read_manifest as read_log_manifest
from bowerbird.log.live.write_ahead import WriteAheadLog, open_wal
from bowerbird.log.reader import LogReader
from bowerbird.log.rows.validate import EventValidator
from bowerbird.log.schema import FORGOTTEN
from bowerbird.log.sources.ingest import ingest
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.samples.build import build_samples
from bowerbird.samples.manifest import read_manifest
from bowerbird.serving.dead_letters import LiveDeadLetters
from bowerbird.serving.forget import forget
from bowerbird.serving.intake import LiveIntake
from bowerbird.serving.slate import Slate
from bowerbird.serving.slates import SlateLog, iterate_slates
from tests.samples.shop_log import START, Row, make_workspace, random_rows

NOW = START * 1000 + 10_000_000_000
USER = 3


def without_user(rows: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {name: [row for row in part if row.get("user") != USER] for name, part in rows.items()}


def live_events(count: int = 60) -> list[dict[str, Any]]:
    return [
        {"type": "click", "id": f"live{n}", "user": n % 5, "item": f"i{n % 7}", "time": NOW - 1000 + n}
        for n in range(count)
    ]


def go_live(workspace: Workspace, events: list[dict[str, Any]]) -> None:
    validator = EventValidator(workspace.project)
    with WriteAheadLog(workspace.wal_folder, workspace.log_folder, segment_bytes=1_500) as log:
        for event in events:
            log.append([validator.validate(event, NOW)], NOW)
            log.sync()


def filled(folder: Path) -> Workspace:
    workspace = make_workspace(folder, random_rows(3), files=2)
    build_samples(workspace)
    go_live(workspace, live_events())
    letters = LiveDeadLetters(workspace.dead_letter_folder)
    for user in (USER, 4):
        letters.add({"type": "click", "user": user, "itm": "x"}, "rejected event", "no field", NOW)
    slates = SlateLog(workspace.slates_folder)
    empty = np.empty(0, np.float32)
    for user in (USER, 4, USER):
        block = FeatureBlock({}, {}, {}, 0)
        slates.append(Slate(f"s{user}", "score", 0, NOW, "home", user, {}, [], "m", 1, "p", block, {}, empty))
    slates.close()
    return workspace


def encoded(workspace: Workspace) -> tuple[np.ndarray, ...]:
    """Return types, times and slots of all records that a plan knows."""
    plan = compile_plan(workspace.project)
    batches = [batch.records for batch in LogReader(workspace).batches(plan, Encoder(plan))]
    types = np.concatenate([batch.types for batch in batches])
    known = types >= 0
    times = np.concatenate([batch.times for batch in batches])
    return types[known], times[known], np.concatenate([batch.slots for batch in batches], axis=1)[:, known]


def places(workspace: Workspace) -> dict[tuple[str, str], int]:
    """Return the LSN of every record of the other users."""
    reader = LogReader(workspace)
    return {
        (record.name, row["_id"]): row["_lsn"]
        for record in workspace.project.record_types
        for row in reader.records(record.name).to_pylist()
        if row.get("user") != USER
    }


def stored_ids(workspace: Workspace) -> list[str]:
    parts = read_log_manifest(workspace.log_folder).parts
    tables = [pq.read_table(workspace.log_folder / part.file, partitioning=None) for part in parts]
    return [
        row["_id"] for table in tables if FORGOTTEN in table.column_names for row in table.to_pylist() if row[FORGOTTEN]
    ]


def contents(workspace: Workspace) -> object:
    """Return everything that an erasure changes, apart from hashes and times of its own."""
    samples = read_manifest(workspace.samples_folder / "default")
    return (
        places(workspace),
        [array.tolist() for array in encoded(workspace)],
        [letter.row for letter in read_dead_letters(workspace.dead_letter_folder)],
        [slate.user for slate in iterate_slates(workspace.slates_folder)],
        (samples.rows, samples.exposures, samples.labels, samples.days),
        (workspace.data_folder / "state").exists(),
        sorted(path.name for path in workspace.samples_folder.iterdir()),
    )


def test_what_is_left_is_a_log_without_the_user(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "all")
    size, before = LogReader(workspace).size, places(workspace)
    report = forget(workspace, str(USER), NOW)
    others = make_workspace(tmp_path / "others", without_user(random_rows(3)))
    go_live(others, [event for event in live_events() if event["user"] != USER])
    assert all(np.array_equal(left, right) for left, right in zip(encoded(workspace), encoded(others), strict=True))
    assert LogReader(workspace).size == size
    assert places(workspace) == before
    assert report.removed["click"] > 10 and report.removed["exposure"] > 10 and report.removed["users"] == 1
    assert report.removed["dead letters"] == 1 and report.removed["slates"] == 2
    assert report.removed["state snapshots"] == 1 and not (workspace.data_folder / "state").exists()
    assert [slate.user for slate in iterate_slates(workspace.slates_folder)] == [4]
    again = forget(workspace, str(USER), NOW)
    assert not any(again.removed.values()) and places(workspace) == before
    with open_wal(workspace) as log:
        assert log.next_lsn == size and log.cut is None


def test_samples_lose_the_users_rows(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "all")
    folder = workspace.samples_folder / "default"
    old = read_manifest(folder)
    report = forget(workspace, str(USER), NOW)
    new = read_manifest(folder)
    files = sorted(folder.glob("date=*/*.parquet"))
    users = np.concatenate(
        [pq.read_table(file, columns=["user"], partitioning=None)["user"].to_numpy() for file in files]
    )
    assert key_integer(USER) not in users and key_integer(4) in users
    assert new.rows == len(users) == old.rows - report.removed["sample rows"] < old.rows
    assert sum(day.rows for day in new.days) == new.rows
    for label in new.labels:
        tables = [pq.read_table(file, partitioning=None)[f"label.{label.name}"].to_pylist() for file in files]
        values = [value for table in tables for value in table]
        assert (label.positives, label.immature) == (values.count(1), values.count(None))
        assert label.mature == len(values) - label.immature


def test_forgetting_everybody_leaves_no_id(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "all")
    size = LogReader(workspace).size
    for user in range(10):
        forget(workspace, str(user), NOW)
    ids = stored_ids(workspace)
    assert len(ids) > 400 and all(identifier.startswith("\0") and "|" not in identifier for identifier in ids)
    reader = LogReader(workspace)
    assert reader.size == size and reader.exposures().num_rows == 0
    assert not list(iterate_slates(workspace.slates_folder))


def test_an_interrupted_erasure_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = filled(tmp_path / "template")
    shutil.copytree(template.folder, tmp_path / "whole")
    whole = Workspace(tmp_path / "whole", template.project, template.settings)
    forget(whole, str(USER), NOW)
    expected = contents(whole)
    replace, step, interrupted = Path.replace, 0, True
    while interrupted:
        step += 3
        folder = tmp_path / f"step{step}"
        shutil.copytree(template.folder, folder)
        workspace = Workspace(folder, template.project, template.settings)
        interrupted = _interrupted(workspace, step, monkeypatch)
        if interrupted:
            forget(workspace, str(USER), NOW)
        assert contents(workspace) == expected
        shutil.rmtree(folder)
    assert step > 9 and Path.replace is replace


def _interrupted(workspace: Workspace, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Forget, but let the disk fail at a step; return whether it got so far."""
    original, count = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == step:
            raise OSError(5, "Input/output error")
        return original(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        try:
            forget(workspace, str(USER), NOW)
        except StorageError:
            return True
    return False


def test_old_files_and_senders_do_not_bring_the_user_back(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "all")
    forget(workspace, str(USER), NOW)
    size = LogReader(workspace).size
    report = ingest(workspace, now=NOW, progress=False)
    assert report.new == 0 and report.forgotten > 20 and LogReader(workspace).size == size
    intake = LiveIntake(workspace)
    old = live_events()[USER]
    with pytest.raises(InputError, match="before its user was forgotten"):
        intake.validate(old, NOW)
    intake.reject(old, "rejected event", "forgotten", NOW)
    assert len(list(read_dead_letters(workspace.dead_letter_folder))) == 1
    assert intake.validate({**old, "time": NOW + 1}, NOW + 1)["user"] == USER


def test_it_waits_for_the_server_to_stop(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "all")
    before = contents(workspace)
    with open_wal(workspace), pytest.raises(UnavailableError, match="Stop that server"):
        forget(workspace, str(USER), NOW)
    assert contents(workspace) == before
    with pytest.raises(InputError, match="'ann' is no user's id"):
        forget(workspace, "ann", NOW)


def test_the_command_says_what_it_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.server.tiny import make_workspace as make_tiny

    workspace = make_tiny(tmp_path / "tiny", rows=50)
    assert run(["forget", "--user", "1", "--yes", "--project", str(workspace.folder)]) == 0
    assert "exposure" in capsys.readouterr().out
    assert 1 not in LogReader(load_workspace(workspace.folder)).records("exposure").column("user").to_pylist()
    lines = (workspace.data_folder / "erasures.jsonl").read_text().splitlines()
    assert [json.loads(line).get("status", "begun") for line in lines] == ["begun", "done"]
    assert run(["forget", "--user", "x", "--yes", "--project", str(workspace.folder)]) == 1
