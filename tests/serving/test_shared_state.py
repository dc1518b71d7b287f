import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.errors import UnavailableError
from bowerbird.plan.compiler import compile_plan
from bowerbird.serving.shared_folder import shared_place
from bowerbird.serving.shared_state import open_shared_reader
from tests.serving.state_log import DECLARATIONS, Following, assert_equal, events, make_workspace, replayed

ROOT = Path(__file__).parents[2]
NOBODY = np.empty(0, np.uint64)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "small", f'[state]\nshared = "{tmp_path}/memory"\nmemory = "64MB"\n')


class Child:
    """A process of ``state_process``; ready when constructed."""

    def __init__(self, task: str, workspace: Workspace, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.state_process", task, str(workspace.folder), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        if child.process.poll() is None:
            child.kill()


def state_files(workspace: Workspace) -> list[Path]:
    folder, name = shared_place(workspace)
    return sorted(folder.glob(f"{name}-*.state"))


def test_readers_in_other_processes_read_what_a_replay_gives(workspace: Workspace, children: list[Child]) -> None:
    writer = Child("write", workspace, 1_000_000, 20)
    readers = [Child("read", workspace, 0.5) for _ in range(2)]
    children += [writer, *readers]
    for reader in readers:
        read, compared, *_ = map(int, reader.line().split())
        assert read > 5 and compared > 2
        assert reader.end() == 0
    writer.kill()


def test_a_reader_killed_while_reading_holds_nothing_up(workspace: Workspace, children: list[Child]) -> None:
    server = Following(workspace)
    server.send(events(0, 2_000))
    readers = [Child("read", workspace, 60) for _ in range(2)]
    children += readers
    for start in range(2_000, 6_000, 20):
        server.send(events(start, start + 20))
        if start == 4_000:
            for reader in readers:
                reader.kill()
    used = server.state.usage().memory
    for start in range(6_000, 12_000, 20):
        server.send(events(start, start + 20))
    usage = server.state.usage()
    assert usage.memory < used + (2 << 20)
    assert usage.retired_blocks < 2_000
    assert_equal(server.read(), replayed(workspace, server.plan, 12_000))
    server.stop()
    assert state_files(workspace) == []


def test_a_killed_writer_leaves_its_last_position_to_read_and_the_next_one_is_found(
    workspace: Workspace, children: list[Child]
) -> None:
    writer = Child("write", workspace, 1_000_000, 20)
    children.append(writer)
    plan = compile_plan(workspace.project)
    reader = open_shared_reader(workspace, plan)
    while reader.lsn < 3_000:
        time.sleep(0.01)
    writer.kill()
    at = 1_700_000_900_000_000
    keys = reader.encoder.encode_items([f"i{number}" for number in range(40)])
    blocks = [reader.read(at, user, {}, keys) for user in range(0, 50, 7)]
    stopped = blocks[0].lsn
    assert_equal(blocks, replayed(workspace, plan, stopped, at))
    assert (reader.generation, reader.writer) == (1, writer.process.pid)
    assert len(state_files(workspace)) == 1
    server = Following(workspace)
    assert server.state.lsn >= stopped
    assert len(state_files(workspace)) == 1
    server.send(events(server.state.lsn, server.state.lsn + 10))
    assert reader.read(at, 1, {}, NOBODY).lsn == server.state.lsn
    assert (reader.generation, reader.writer) == (2, os.getpid())
    assert_equal([reader.read(at, user, {}, keys) for user in range(0, 50, 7)], server.read(at))
    server.stop()


def test_a_reader_follows_plans_that_come_and_go(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send(events(0, 500))
    reader = open_shared_reader(workspace, server.plan)
    more = DECLARATIONS.replace(
        '"price": bb.number', '"clicks_2h": bb.count(click, by=user, window="2h"), "p": bb.number'
    )
    (workspace.folder / "project.py").write_text(more)
    plan = compile_plan(load_workspace(workspace.folder).project)
    with pytest.raises(UnavailableError, match="not what the plan"):
        open_shared_reader(workspace, plan)
    server.state.require(plan)
    both = open_shared_reader(workspace, plan)
    server.send(events(500, 600))
    assert both.read(1_700_000_100_000_000, 1, {}, NOBODY).lsn == 600
    assert reader.read(1_700_000_100_000_000, 1, {}, NOBODY).lsn == 600
    server.state.keep_only({server.plan.fingerprint})
    assert len(state_files(workspace)) == 1
    server.send(events(600, 700))
    assert reader.read(1_700_000_100_000_000, 1, {}, NOBODY).lsn == 700
    assert reader.generation == 3
    block = both.read(1_700_000_100_000_000, 1, {}, NOBODY)
    assert block.lsn <= 700
    server.stop()


def test_nothing_shared_is_said(tmp_path: Path, workspace: Workspace) -> None:
    plan = compile_plan(workspace.project)
    with pytest.raises(UnavailableError, match="No server shows its state"):
        open_shared_reader(workspace, plan)
    alone = make_workspace(tmp_path / "alone")
    with pytest.raises(UnavailableError, match="does not share"):
        open_shared_reader(alone, plan)


def test_files_of_dead_writers_are_removed(workspace: Workspace) -> None:
    folder, name = shared_place(workspace)
    folder.mkdir(parents=True)
    stale, other = folder / f"{name}-4194305-1.state", folder / "other-4194305-1.state"
    stale.touch()
    other.touch()
    server = Following(workspace)
    assert not stale.exists() and other.exists()
    server.stop()
