from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import StorageError
from bowerbird.log import LogReader, WriteAheadLog, count_dead_letters, ingest
from bowerbird.log.live.wal_reader import read_wal
from tests.log.shop import NOW, make_workspace, many_rows, row, write_csv

ROOT = Path(__file__).parents[2]


def state(workspace: Workspace) -> dict[str, list[dict[str, object]]]:
    reader = LogReader(workspace)
    return {record.name: reader.records(record.name).to_pylist() for record in workspace.project.record_types}


def files(workspace: Workspace) -> set[str]:
    folder = workspace.data_folder
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "LOCK"}


@pytest.fixture
def before(tmp_path: Path) -> Workspace:
    """A log with one file ingested, and a second file that waits."""
    workspace = make_workspace(tmp_path / "before")
    write_csv(tmp_path / "before/raw/log1.csv", many_rows(60))
    ingest(workspace, now=NOW)
    write_csv(tmp_path / "before/raw/log2.csv", [*many_rows(60, start=40), row(uid="")])
    return workspace


@pytest.fixture
def after(before: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(before.folder, tmp_path / "after")
    workspace = make_workspace(tmp_path / "after")
    ingest(workspace, now=NOW)
    return workspace


@contextmanager
def killer() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.log.crash_steps"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(process: subprocess.Popen[str], folder: Path, step: int) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{folder} {step}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_killed_ingest_leaves_the_old_log_or_the_new(before: Workspace, after: Workspace, tmp_path: Path) -> None:
    old, new, wanted = state(before), state(after), files(after)
    assert old != new
    with killer() as process:
        shutil.copytree(before.folder, tmp_path / "counted")
        assert ask(process, tmp_path / "counted", 0) == "exit 0"
        steps = int((tmp_path / "counted/steps").read_text())
        assert steps > 20
        outcomes = []
        for step in range(1, steps + 1, max(1, steps // 12)):
            folder = tmp_path / f"step{step}"
            shutil.copytree(before.folder, folder)
            assert ask(process, folder, step) == f"killed {signal.SIGKILL}"
            workspace = make_workspace(folder)
            found = state(workspace)
            assert found in (old, new)
            outcomes.append(found == new)
            ingest(workspace, now=NOW)
            assert state(workspace) == new and files(workspace) == wanted
            assert count_dead_letters(workspace.dead_letter_folder) == {("log", "missing key"): 1}
    assert outcomes == sorted(outcomes) and not outcomes[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_an_ingest_killed_at_a_random_time(before: Workspace, after: Workspace, seed: int) -> None:
    old, new = state(before), state(after)
    script = "import sys; from tests.log.crash_steps import run_child; print(flush=True); run_child(sys.argv[1], -1)"
    command = [sys.executable, "-c", script, str(before.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.4))
        process.kill()
    assert state(before) in (old, new)
    ingest(before, now=NOW)
    assert state(before) == new


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_an_interrupted_import_into_a_live_log_is_completed_by_the_next(
    before: Workspace, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("bowerbird.log.imported.live_import._APPEND_ROWS", 9)
    with WriteAheadLog(before.wal_folder, before.log_folder) as wal:
        wal.append([{"_type": "click", "_id": "live", "_time": NOW, "user": "ann", "item": 1}], NOW)
    shutil.copytree(before.folder, before.folder.with_name("whole"))
    whole = make_workspace(before.folder.with_name("whole"))
    ingest(whole, now=NOW)
    append, calls = WriteAheadLog.append, 0

    def interrupted(self: WriteAheadLog, payloads: Sequence[Mapping[str, Any]], now: int | None = None) -> int:
        nonlocal calls
        calls += 1
        if calls == chunk:
            raise StorageError("Full.", "Free space.")
        return append(self, payloads, now)

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(WriteAheadLog, "append", interrupted)
        ingest(before, now=NOW)
    assert LogReader(before).size < LogReader(whole).size
    ingest(before, now=NOW)
    assert state(before) == state(whole)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 10, 600, 3_000])
def test_a_full_disk_leaves_the_log_as_it_was(before: Workspace, after: Workspace, size: int) -> None:
    old, kept = state(before), files(before)
    with file_size_limit(size), pytest.raises(StorageError, match="Free space"):
        ingest(before, now=NOW)
    assert state(before) == old and files(before) == kept
    ingest(before, now=NOW)
    assert state(before) == state(after)


def test_a_full_disk_while_records_are_spilled(before: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    old = state(before)
    monkeypatch.setattr("bowerbird.log.imported.spill.MEMORY_LIMIT", 100)
    with file_size_limit(300), pytest.raises(StorageError):
        ingest(before, now=NOW)
    assert state(before) == old and not (before.log_folder / ".staging").exists()


WRITER = """
import sys
from pathlib import Path
from bowerbird.log import WriteAheadLog
with WriteAheadLog(Path(sys.argv[1]), segment_bytes=4_000) as wal:
    while True:
        wal.append([{"_type": "click", "_id": f"id{wal.next_lsn}", "_time": 1}])
        print(wal.sync(), flush=True)
"""


def test_a_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    for seed in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(random.Random(seed).randint(1, 120)):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
            acknowledged = max([acknowledged, *map(int, rest[:-1])])
        found = [payload["_id"] for _, payload in read_wal(tmp_path, 0)]
        assert len(found) >= acknowledged
        assert found == [f"id{lsn}" for lsn in range(len(found))]
    with WriteAheadLog(tmp_path) as wal:
        assert wal.next_lsn >= acknowledged
