"""A real server of two processes removes the oldest slates of its folder, keeps what it writes, and says so."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import NotFoundError
from bowerbird.monitoring.explain import explain
from bowerbird.serving.slate_segments import segment_files
from bowerbird.serving.slates import SlateLog, iterate_slates
from tests.server.process import ServerProcess
from tests.serving.test_slates import slate

EARLIER = 20


def test_a_server_keeps_its_slates_within_their_limit(workspace: Workspace) -> None:
    earlier = SlateLog(workspace.slates_folder, segment_bytes=1)
    for number in range(EARLIER):
        earlier.append(slate(number))
    earlier.close()
    ids = _ids(workspace)
    files = segment_files(workspace.slates_folder)
    kept, removed = _bytes(files[-3:]), _bytes(files[:-3])
    (workspace.folder / "bowerbird.toml").write_text(f'[server]\nslates_size = "{kept}"\n')
    with ServerProcess(workspace, "--workers", "2") as server, server.client() as client:
        deadline = time.monotonic() + 30
        while (shown := _shown(server)) != (EARLIER - 3, removed, kept) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert shown == (EARLIER - 3, removed, kept)
        answered = client.score("home", 1, ["i1", "i2"], context={"page": 1}).slate_id
    *left, last = _ids(workspace)
    assert last == answered
    assert left == ids[len(ids) - len(left) :], "the oldest go first"
    assert len(left) <= 3, "and make room for the answered one where retention looked once more"
    with pytest.raises(NotFoundError, match="probably been removed"):
        explain(workspace, ids[0], item="i1")


def _ids(workspace: Workspace) -> list[str]:
    return [each.slate_id for each in iterate_slates(workspace.slates_folder)]


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _shown(server: ServerProcess) -> tuple[float, ...]:
    """Return the segments removed, their bytes and the bytes on disk, summed over the workers as a dashboard does."""
    text = httpx.get(server.address + "/metrics", trust_env=False, timeout=30).text
    return tuple(
        sum(map(float, re.findall(rf"^bowerbird_slates_{name}{{.*}} (\S+)$", text, re.MULTILINE)))
        for name in ("removed_segments", "removed_bytes", "bytes")
    )
