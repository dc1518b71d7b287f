import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import InputError, StorageError, UnavailableError
from bowerbird.log.wal import WriteAheadLog
from bowerbird.serving.clock import Clock
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.writer import EventWriter


class Intake:
    def __init__(self) -> None:
        self.rejected: list[str] = []

    def validate(self, raw: Mapping[str, Any], now: int) -> dict[str, Any]:
        if "id" not in raw:
            raise InputError("No id.", "Give one.")
        return {"_type": "click", "_id": raw["id"], "_time": now}

    def reject(self, raw: Mapping[str, Any], reason: str, now: int) -> None:
        self.rejected.append(reason)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.log = WriteAheadLog(folder)
        self.applied: list[str] = []
        self.lock = threading.Lock()
        self.writer = EventWriter(self.log, Intake(), KnownIds(), Clock(), self.apply)

    def apply(self, events: Sequence[Mapping[str, Any]]) -> None:
        with self.lock:
            assert self.log.synced_lsn == self.log.next_lsn, "applied before durable"
            self.applied += [event["_id"] for event in events]

    def statuses(self, *identifiers: str) -> list[str]:
        outcomes = self.writer.submit([{"id": each} if each else {} for each in identifiers]).result(10)
        return [outcome.status for outcome in outcomes]

    def close(self) -> None:
        self.writer.close()
        self.log.close()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_events_are_durable_then_applied_then_answered_in_log_order(rig: Rig) -> None:
    with rig.lock:
        waiting = [rig.writer.submit([{"id": f"{number}"}]) for number in range(200)]
    for each in waiting:
        each.result(10)
    assert rig.applied == [payload["_id"] for _, payload in rig.log.iterate()]
    assert sorted(rig.applied, key=int) == rig.applied
    rig.close()


def test_duplicates_within_a_request_between_requests_and_after_a_restart(rig: Rig, tmp_path: Path) -> None:
    assert rig.statuses("a", "a", "", "b") == ["accepted", "duplicate", "rejected", "accepted"]
    assert rig.statuses("b", "c") == ["duplicate", "accepted"]
    assert rig.applied == ["a", "b", "c"]
    rig.close()


def test_a_refused_write_acknowledges_nothing_and_can_be_sent_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise StorageError("Full.", "Free space.")

    with monkeypatch.context() as patched:
        patched.setattr(rig.log, "append", refuse)
        with pytest.raises(StorageError):
            rig.statuses("a")
    assert rig.applied == []
    assert rig.statuses("a") == ["accepted"]
    rig.close()


def test_after_an_internal_error_nothing_more_is_acknowledged(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.writer, "_apply", lambda events: 1 / 0)
    with pytest.raises(UnavailableError, match="internal error"):
        rig.statuses("a")
    with pytest.raises(UnavailableError):
        rig.statuses("b")
    rig.close()


def test_a_closed_writer_has_written_what_was_submitted(rig: Rig) -> None:
    waiting = [rig.writer.submit([{"id": str(number)}]) for number in range(50)]
    rig.close()
    assert all(each.result(0)[0].status == "accepted" for each in waiting)
    with pytest.raises(UnavailableError, match="shutting down"):
        rig.writer.submit([{"id": "late"}])
