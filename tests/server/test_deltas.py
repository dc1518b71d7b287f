"""Embedding deltas under load: every worker applies them, nothing fails, and what was served can be computed again."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from bowerbird.bundles.bundle import Bundle, read_bundle
from bowerbird.bundles.deltas import DeltaLog, publish_delta
from bowerbird.declare.workspace import Workspace
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.embedding.served_table import TableChange
from bowerbird.monitoring.parity import check_parity, describe_parity
from bowerbird.serving.slates import iterate_slates
from tests.server.load import Traffic
from tests.server.process import ServerProcess

DELTAS = 8


def tables_of_bundle(bundle: Bundle) -> ServedCollection:
    tables = bundle.load_collection()
    assert isinstance(tables, ServedCollection)
    return tables


def changes(bundle: Bundle, number: int) -> dict[str, TableChange]:
    """Return other rows for every key of every table."""
    random = np.random.default_rng(number)
    return {
        name: TableChange(keys, random.normal(size=(len(keys), table.dimension)).astype(np.float32))
        for name, table in tables_of_bundle(bundle).tables.items()
        if len(keys := table.known_keys())
    }


def wait_until_all_have(address: str, metric: str, value: float, workers: int) -> None:
    deadline = time.monotonic() + 30
    found: list[str] = []
    while len(found) < workers or {float(each) for each in found} != {value}:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        text = httpx.get(f"{address}/metrics", trust_env=False).text
        found = re.findall(rf"^{metric}{{[^}}]*}} (\S+)$", text, re.MULTILINE)


def test_deltas_reach_all_workers_fail_no_request_and_keep_parity(workspace: Workspace) -> None:
    bundle = read_bundle(workspace.bundles_folder / "din" / "1")
    publish_delta(bundle, changes(bundle, 0))
    with ServerProcess(workspace, "--workers", "2") as server:
        traffic = Traffic(server.address, senders=1, askers=4)
        for number in range(1, DELTAS):
            time.sleep(0.3)
            publish_delta(bundle, changes(bundle, number))
        wait_until_all_have(server.address, "bowerbird_delta", DELTAS, workers=2)
        time.sleep(0.3)
        traffic.stop()
        assert not traffic.failures
    slates = list(iterate_slates(workspace.slates_folder))
    assert {slates[0].delta, slates[-1].delta} <= set(range(1, DELTAS + 1))
    assert len({slate.delta for slate in slates}) > DELTAS // 2
    report = check_parity(workspace, slates)
    assert report.holds and report.without_deltas == 0, describe_parity(report)
    DeltaLog(bundle.folder, bundle.digest).file(3).unlink()
    report = check_parity(workspace, slates)
    gone = sum(slate.delta >= 3 for slate in slates)
    assert report.without_deltas == gone > 0
    assert f"{gone:,} slates were served with embedding deltas that are gone" in "\n".join(describe_parity(report))


def test_one_that_waits_shows_and_the_server_goes_on(workspace: Workspace) -> None:
    bundle = read_bundle(workspace.bundles_folder / "din" / "1")
    publish_delta(bundle, changes(bundle, 1))
    file = DeltaLog(bundle.folder, bundle.digest).file(1)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with ServerProcess(workspace) as server, server.client() as client:
        before = client.score("home", 1, ["i1"]).scores
        wait_until_all_have(server.address, "bowerbird_delta_waiting", 1.0, workers=1)
        assert "damaged or not whole" in server.log
        file.write_bytes(whole)
        wait_until_all_have(server.address, "bowerbird_delta", 1.0, workers=1)
        wait_until_all_have(server.address, "bowerbird_delta_waiting", 0.0, workers=1)
        assert client.score("home", 1, ["i1"]).scores != before


def test_tables_that_are_not_what_was_published_are_withdrawn_after_the_start(workspace: Workspace) -> None:
    """A start maps tables and does not read them; promotion does."""
    one, two = (largest_table(workspace.bundles_folder / "din" / version) for version in ("1", "2"))
    for file in (one, two):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1  # of the last row, which no golden request asks for
        file.write_bytes(bytes(data))
    with ServerProcess(workspace) as server:
        deadline = time.monotonic() + 30
        while "is withdrawn" not in server.log:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        assert one.name in server.log
        answer = httpx.post(
            f"{server.address}/v1/scenes/home/score", json={"user": 1, "candidates": ["i1"]}, trust_env=False
        )
        assert answer.status_code == 503
        refused = httpx.post(f"{server.address}/v1/models/din/versions/2/promote", trust_env=False)
        assert refused.status_code >= 400 and two.name in refused.text


def largest_table(folder: Path) -> Path:
    return max((folder / "tables").iterdir(), key=lambda file: file.stat().st_size)


def test_a_client_sees_one_version_of_rows_in_one_answer(workspace: Workspace) -> None:
    """Equal candidates have equal scores (but for last bits) in every answer, whatever deltas come meanwhile."""
    bundle = read_bundle(workspace.bundles_folder / "din" / "1")
    with ServerProcess(workspace) as server, server.client() as asking:
        for number in range(1, 6):
            publish_delta(bundle, changes(bundle, number))
            for _ in range(20):
                for first, _, third in asking.score("home", 1, ["i1", "i2", "i1"]).scores.values():
                    assert first == pytest.approx(third, abs=1e-6)
