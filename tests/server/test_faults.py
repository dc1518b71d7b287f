import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import CorruptionError, StorageError
from tests.server.load import logged_ids
from tests.server.process import ROOT, ServerProcess


def change_one_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["rows.safetensors", "staged.msgpack", "plan.json", "golden.json", "manifest.json"])
def test_a_bundle_with_one_byte_changed_is_refused_and_the_old_one_goes_on(
    shared: ServerProcess, client: Client, template: Workspace, name: str
) -> None:
    file = shared.workspace.bundles_folder / "din" / "2" / name
    change_one_byte(file)
    try:
        with pytest.raises(CorruptionError, match=name):
            client.promote("din", 2)
        assert client.score("home", 1, ["i1"]).model.version == 1
        assert client.version("din", 1).stage == "live"
        assert client.version("din", 2).stage == "candidate"
    finally:
        shutil.copy(template.bundles_folder / "din" / "2" / name, file)


def test_a_damaged_live_bundle_keeps_the_server_from_starting(workspace: Workspace) -> None:
    change_one_byte(workspace.bundles_folder / "din" / "1" / "rows.safetensors")
    result = subprocess.run(
        [sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(workspace.folder), "--port", "0"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert result.returncode == 1
    assert b"rows.safetensors is not what was published" in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_full_disk_refuses_events_and_scoring_goes_on(workspace: Workspace) -> None:
    """A file size limit stands for the full disk: the kernel refuses the write in both cases."""
    with ServerProcess(workspace) as server, server.client() as client:
        first = {"type": "click", "id": "first", "user": 1, "item": "i1"}
        client.send_event(first)
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        (segment,) = workspace.wal_folder.glob("*.wal")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (segment.stat().st_size + 20, hard))
        second = {"type": "click", "id": "second", "user": 1, "item": "i2"}
        for _ in range(3):
            with pytest.raises(StorageError):
                client.send_event(second)
        assert len(client.score("home", 1, ["i1"]).ranking) == 1
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert client.send_event(first).duplicate == 1
        assert client.send_event(second).accepted == 1
        assert client.entity("user", 1).features["history"][-1]["item"] == "i2"
    counts = logged_ids(workspace)
    assert counts["click", "second"] == counts["click", "first"] == 1


def test_a_clock_that_went_back_does_not_disorder_the_log(workspace: Workspace) -> None:
    with ServerProcess(workspace) as server, server.client() as client:
        client.send_event({"type": "click", "id": "a", "user": 1, "item": "i1"})
        late = {"type": "click", "id": "b", "user": 1, "item": "i2", "time": "2023-11-14T00:00:00Z"}
        assert client.send_event(late).accepted == 1
        before = client.score("home", 1, ["i1"])
    from bowerbird.log.live.wal_reader import read_wal

    available = [payload["_available"] for _, payload in read_wal(workspace.wal_folder, 0)]
    assert available == sorted(available)
    with ServerProcess(workspace) as server, server.client() as client:
        after = client.score("home", 1, ["i1"])
        assert after.time >= before.time
        assert after.lsn == before.lsn
