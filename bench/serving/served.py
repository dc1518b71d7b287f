"""A copy of the KuaiRand workspace with a published model, and a server process on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.accuracy import RECIPES, samples_by_date, trained
from bench.common import WORK
from bench.kuairand import sampled
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.publishing.publish import PublishRequest, publish


def served_workspace(model: str = "din", name: str = "kuairand-served") -> Workspace:
    """Return a fresh workspace with KuaiRand's log and one live version of a recipe of ``bench.accuracy``."""
    assert model in RECIPES
    source = sampled()
    run, _ = trained(source, SampleFolder(samples_by_date(source)), model, seed=0)
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for file in ("project.py", "bowerbird.toml"):
        shutil.copy(source.folder / file, folder / file)
    shutil.copytree(source.log_folder, folder / "data" / "log")
    target = load_workspace(folder)
    publish(
        PublishRequest(
            run=run,
            samples_folder=source.samples_folder,
            bundles_folder=target.bundles_folder,
            registry_url=target.registry_url,
            name="kuairand",
            promote=True,
        )
    )
    return target


@contextmanager
def server(workspace: Workspace) -> Iterator[int]:
    """Run ``bowerbird serve`` as a process of its own; yields its port once it is ready."""
    with server_process(workspace) as (port, _):
        yield port


def stand_apart(servers: int = 1) -> set[int]:
    """Keep this process off the last ``servers`` cores, and return them: a server has them to itself."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= servers:
        raise SystemExit(f"There are {len(cores)} cores: {servers} for the server leave none for the load generator.")
    os.sched_setaffinity(0, cores[:-servers])
    return set(cores[-servers:])


@contextmanager
def server_process(workspace: Workspace, *options: str, cores: Collection[int] = ()) -> Iterator[tuple[int, int]]:
    """Run ``bowerbird serve`` with options, on some cores alone; yields its port and process id once it is ready."""
    command = [sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(workspace.folder), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores or os.sched_getaffinity(0)),
    )
    assert process.stdout is not None
    try:
        for line in iter(process.stdout.readline, b""):
            if line.startswith(b"Ready at "):
                yield int(line.split()[2].rsplit(b":", 1)[1]), process.pid
                return
        raise SystemExit("The server did not start.")
    finally:
        process.terminate()
        process.wait()


def server_pids(pid: int) -> list[int]:
    """Return a server's process ids: its own, and its workers'."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def resident_bytes(pid: int) -> int:
    """Return what a server's processes take: pages that several share count once (the sum of PSS)."""
    return memory_of(server_pids(pid))[0]


def memory_of(pids: list[int]) -> tuple[int, int]:
    """Return the bytes that processes take together (pages that several share count once), and how many they wrote."""
    total = written = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, size = line.partition(":")
            total += 1024 * int(size.split()[0]) if name == "Pss" else 0
            written += 1024 * int(size.split()[0]) if name == "Private_Dirty" else 0
    return total, written
