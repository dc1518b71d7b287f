"""Processes that write and read shared state, for tests that kill them.

python -m tests.serving.state_process write FOLDER FIRST LAST BATCH
python -m tests.serving.state_process read FOLDER SECONDS [stay]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from bowerbird.declare.workspace import load_workspace
from bowerbird.plan.compiler import compile_plan
from bowerbird.serving.shared_state import open_shared_reader
from tests.serving.state_log import ITEMS, USERS, Following, assert_equal, events, replayed


def write(folder: Path, last: int, batch: int) -> None:
    """Follow the log, then append batches of records up to LSN ``last``, as fast as it goes; wait to be killed."""
    server = Following(load_workspace(folder))
    print("ready", flush=True)
    while server.state.lsn < last:
        server.send(events(server.state.lsn, server.state.lsn + batch))
    print("done", flush=True)
    sys.stdin.read()
    server.stop()


def read(folder: Path, seconds: float) -> None:
    """Read for a while, then compare a few of the answers with a new replay at their LSN, bit for bit."""
    workspace = load_workspace(folder)
    plan = compile_plan(workspace.project)
    reader = open_shared_reader(workspace, plan)
    keys = reader.encoder.encode_items([f"i{number}" for number in range(ITEMS)])
    print("ready", flush=True)
    answers, until, at = {}, time.monotonic() + seconds, 1_700_000_900_000_000
    while time.monotonic() < until:
        blocks = [reader.read(at, user, {}, keys) for user in range(0, USERS, 7)]
        if len({block.lsn for block in blocks}) == 1:
            answers[blocks[0].lsn] = blocks
    lsns = list(answers)
    assert lsns == sorted(lsns), "the position went back"
    chosen = lsns[:: max(1, len(lsns) // 6)]
    for lsn in chosen:
        assert_equal(answers[lsn], replayed(workspace, plan, lsn, at))
    print(f"{len(lsns)} {len(chosen)} {lsns[-1]} {reader.generation} {reader.writer}", flush=True)


if __name__ == "__main__":
    task, folder, *rest = sys.argv[1:]
    if task == "write":
        write(Path(folder), int(rest[0]), int(rest[1]))
    else:
        read(Path(folder), float(rest[0]))
    os._exit(0)
