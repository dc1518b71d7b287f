import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.errors import InputError, StorageError
from bowerbird.log.live.write_ahead import open_wal
from bowerbird.log.snapshots import SnapshotStore
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.state import FeatureState
from tests.serving.state_log import DECLARATIONS, Following, assert_equal, events, make_workspace, replayed


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "small")


@contextmanager
def following(workspace: Workspace) -> Iterator[Following]:
    server = Following(workspace)
    try:
        yield server
    finally:
        server.stop()


def files(workspace: Workspace) -> list[Path]:
    return sorted(workspace.state_folder.glob("*/*.snapshot"))


def lsns(workspace: Workspace) -> list[int]:
    return [int(file.stem) for file in files(workspace)]


def test_a_clean_stop_leaves_a_snapshot_and_the_next_start_reads_nothing_else(workspace: Workspace) -> None:
    with following(workspace) as server:
        server.send(events(0, 1_000))
    assert lsns(workspace) == [1_000]
    with following(workspace) as server:
        assert (server.state.recovery.restored_groups, server.state.recovery.replayed_records) == (1, 0)
        assert_equal(server.read(), replayed(workspace, server.plan, 1_000))
        server.send(events(1_000, 1_500))
        assert_equal(server.read(), replayed(workspace, server.plan, 1_500))


def test_a_crash_costs_the_log_s_tail(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send(events(0, 700))
    server.snapshots.write(server.state.groups[0].state)
    server.send(events(700, 1_000))
    server.crash()
    with following(workspace) as server:
        assert server.state.recovery.replayed_records == 300
        assert_equal(server.read(), replayed(workspace, server.plan, 1_000))


def test_a_snapshot_taken_while_events_stream_in_restores_exactly(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send(events(0, 500))
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            server.snapshots.write(server.state.groups[0].state)

    writing = threading.Thread(target=write)
    writing.start()
    for start in range(500, 6_500, 30):
        server.send(events(start, start + 30))
    done.set()
    writing.join()
    server.crash()
    assert len(files(workspace)) == 2
    with following(workspace) as server:
        assert server.state.recovery.restored_groups == 1
        assert_equal(server.read(), replayed(workspace, server.plan, 6_500))


def test_threads_may_write_snapshots_at_once(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send(events(0, 500))
    state = server.state.groups[0].state
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: server.snapshots.write(state), range(40)))
    assert {each.lsn for each in written} == {500} and lsns(workspace) == [500]
    assert server.snapshots.failed == 0
    server.crash()


def test_snapshots_come_after_so_many_events(tmp_path: Path) -> None:
    settings = "[state]\nsnapshot_events = 100\nsnapshot_minutes = 1000"
    workspace = make_workspace(tmp_path / "small", settings)
    server = Following(workspace)
    for lsn in (10, 60, 120, 260, 300):
        server.send(events(server.state.lsn, lsn))
        server.keeper.tick()
    server.crash()
    assert lsns(workspace) == [120, 260]


def test_snapshots_come_after_so_many_minutes(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "small", "[state]\nsnapshot_minutes = 5.0")
    server = Following(workspace)
    server.send(events(0, 10))
    server.keeper.tick()
    server.send(events(10, 20))
    server.keeper.tick()
    assert lsns(workspace) == [10]
    server.state.groups[0].snapshot_time -= 301
    assert server.keeper.snapshot_age > 300
    server.keeper.tick()
    assert lsns(workspace) == [10, 20]
    assert server.keeper.snapshot_age < 60
    server.crash()


def two_snapshots(workspace: Workspace) -> Path:
    """Leave snapshots at 600 and 900 of a log of 1,000 records, and return the newest."""
    server = Following(workspace)
    for lsn in (600, 900):
        server.send(events(server.state.lsn, lsn))
        server.snapshots.write(server.state.groups[0].state)
    server.send(events(900, 1_000))
    server.crash()
    return files(workspace)[-1]


def assert_recovers(workspace: Workspace, records: int, skipped: int) -> None:
    with following(workspace) as server:
        assert server.state.recovery.replayed_records == records
        assert server.snapshots.skipped == skipped
        assert_equal(server.read(), replayed(workspace, server.plan, 1_000))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_half_a_snapshot_gives_way_to_the_one_before(workspace: Workspace, share: float) -> None:
    newest = two_snapshots(workspace)
    data = newest.read_bytes()
    newest.write_bytes(data[: int(share * len(data))])
    assert_recovers(workspace, 400, 1)


@pytest.mark.parametrize("place", [0, 9, 26, 40, 0.3, 0.5, 0.7, 0.95, -1])
def test_a_changed_byte_gives_way_to_the_one_before(workspace: Workspace, place: float) -> None:
    newest = two_snapshots(workspace)
    data = bytearray(newest.read_bytes())
    data[int(place * len(data)) if 0 < place < 1 else int(place)] ^= 4
    newest.write_bytes(data)
    assert_recovers(workspace, 400, 1)


def test_no_changed_byte_of_a_small_snapshot_goes_unseen(tmp_path: Path) -> None:
    state = FeatureState(compile_plan(make_workspace(tmp_path).project))
    file = tmp_path / "whole"
    state.snapshot(file)
    data = file.read_bytes()
    for place in range(0, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        with pytest.raises(Exception, match="changed"):
            FeatureState(state.plan).restore(tmp_path / "changed")


def test_all_snapshots_damaged_means_the_whole_log(workspace: Workspace) -> None:
    two_snapshots(workspace)
    for file in files(workspace):
        file.write_bytes(b"nothing")
    assert_recovers(workspace, 1_000, 2)


def test_a_snapshot_that_does_not_fit_any_more_is_answered_as_declared(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send([{**each, "user": number} for number, each in enumerate(events(0, 20_000))])
    server.stop()
    (workspace.folder / "bowerbird.toml").write_text('[state]\nmemory = "1MB"\n')
    with following(load_workspace(workspace.folder)) as server:
        assert server.snapshots.skipped == 1
        usage = server.state.usage()
        assert usage.memory <= 1 << 20
        assert usage.refused > 0
        assert server.view.lsn == 20_000


def test_a_snapshot_of_another_log_is_not_taken(workspace: Workspace, tmp_path: Path) -> None:
    two_snapshots(workspace)
    (workspace.log_folder).mkdir(exist_ok=True)
    store = SnapshotStore(workspace.state_folder, "another")
    assert list(store._candidates({f for f in ()})) == []
    store.prune([])
    assert files(workspace) == []


def test_a_snapshot_beyond_the_log_is_not_taken(workspace: Workspace) -> None:
    """The log was put back from an older backup, or is a new one."""
    two_snapshots(workspace)
    for segment in workspace.wal_folder.glob("*.wal"):
        segment.unlink()
    server = Following(workspace)
    server.send(events(0, 650))
    server.crash()
    with following(workspace) as server:
        assert server.snapshots.skipped == 1
        assert server.state.recovery.replayed_records == 50


def test_a_torn_log_tail_is_cut_and_the_snapshot_still_fits(workspace: Workspace) -> None:
    two_snapshots(workspace)
    segment = sorted(workspace.wal_folder.glob("*.wal"))[-1]
    with segment.open("ab") as stream:
        stream.write(b"\x50\x00\x00\x00half a record")
    assert_recovers(workspace, 100, 0)


def test_a_full_disk_costs_the_snapshot_and_nothing_else(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Following(workspace)
    server.send(events(0, 100))

    def full(self: FeatureState, path: Path) -> None:
        path.write_bytes(b"half")
        raise StorageError(f"The snapshot was not written: {OSError(errno.ENOSPC, 'No space left')}.", "Free some.")

    with monkeypatch.context() as patched:
        patched.setattr(FeatureState, "snapshot", full)
        server.keeper.tick()
        server.keeper.tick()
    assert server.snapshots.failed == 1
    assert "No space left" in caplog.text
    assert list(workspace.state_folder.rglob("*.snapshot")) == []
    server.send(events(100, 200))
    server.keeper._retry_after = 0.0
    server.keeper.tick()
    assert lsns(workspace) == [200]
    server.crash()
    with following(workspace) as server:
        assert_equal(server.read(), replayed(workspace, server.plan, 200))


def test_a_changed_plan_takes_what_is_shared_from_the_snapshot(workspace: Workspace) -> None:
    two_snapshots(workspace)
    changed = DECLARATIONS.replace('"clicks_1h": bb.count(click, by=user, window="1h"),', "").replace(
        '"price": bb.number', '"clicks_2h": bb.count(click, by=user, window="2h"), "price": bb.number'
    )
    (workspace.folder / "project.py").write_text(changed)
    workspace = load_workspace(workspace.folder)
    with following(workspace) as server:
        recovery = server.state.recovery
        assert (recovery.restored_groups, recovery.replayed_records) == (1, 100 + 1_000)
        (only,) = server.state.groups[1].plan.aggregates
        assert only.window == 2 * 3_600_000_000
        assert_equal(server.read(), replayed(workspace, server.plan, 1_000))
    with following(workspace) as server:
        assert (server.state.recovery.restored_groups, server.state.recovery.replayed_records) == (2, 0)
        assert_equal(server.read(), replayed(workspace, server.plan, 1_000))


def test_snapshots_that_are_mostly_of_no_use_are_left(workspace: Workspace) -> None:
    two_snapshots(workspace)
    few = 'features = {"clicks_1h": bb.count(click, by=user, window="1h")}'
    start = DECLARATIONS.index("features = {")
    end = DECLARATIONS.index("}\nproject") + 1
    (workspace.folder / "project.py").write_text(DECLARATIONS[:start] + few + DECLARATIONS[end:])
    with following(load_workspace(workspace.folder)) as server:
        assert server.state.recovery.restored_groups == 0
        assert_equal(server.read(), replayed(server.workspace, server.plan, 1_000))


def test_what_a_killed_writer_left_half_written_is_removed(workspace: Workspace) -> None:
    newest = two_snapshots(workspace)
    half = newest.with_name(".writing-4194305.snapshot")
    half.write_bytes(b"half")
    own = newest.with_name(".writing-1.snapshot")
    own.write_bytes(b"another process is at it")
    SnapshotStore(workspace.state_folder, "")
    assert not half.exists()
    assert own.exists()


def test_expiry_changes_no_value(workspace: Workspace) -> None:
    server = Following(workspace)
    server.send(events(0, 3_000))
    before = server.state.usage().family_keys["item"]
    changes = {"user": 3, "item": "i3"}
    late = [{**each, "_time": each["_time"] + 3 * 86_400_000_000, **changes} for each in events(3_000, 3_100)]
    at = late[-1]["_time"]
    for start in range(0, 100, 25):
        server.send(late[start : start + 25])
        server.state.expire_later(at - 86_400_000_000)
    assert server.state.usage().family_keys["item"] == 1 < before
    assert_equal(server.read(at), replayed(workspace, server.plan, 3_100, at))
    server.crash()


@pytest.mark.parametrize(
    "line", ['memory = "lots"', 'full = "panic"', "snapshot_minutes = 0.0", "snapshot_events = -1", "expire = 1"]
)
def test_settings_that_cannot_be_are_refused(workspace: Workspace, line: str) -> None:
    (workspace.folder / "bowerbird.toml").write_text(f"[state]\n{line}\n")
    with pytest.raises(InputError):
        load_workspace(workspace.folder)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("8GB", 8 << 30), ("512 mb", 512 << 20), ("1.5KB", 1536)])
def test_sizes(workspace: Workspace, text: str, size: int) -> None:
    (workspace.folder / "bowerbird.toml").write_text(f'[state]\nmemory = "{text}"\n')
    assert load_workspace(workspace.folder).settings.state.memory_bytes == size


def test_the_log_s_lock_is_one_server_s(workspace: Workspace) -> None:
    with following(workspace), pytest.raises(Exception, match="is being written"):
        open_wal(workspace)
