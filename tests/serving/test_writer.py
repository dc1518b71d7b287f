import asyncio
import errno
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bowerbird.errors import InputError, StorageError, UnavailableError
from bowerbird.log.live.write_ahead import WriteAheadLog
from bowerbird.log.retractions import retraction_id
from bowerbird.serving.clock import Clock
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.writer import EventWriter


class Intake:
    def __init__(self) -> None:
        self.rejected: list[tuple[str, str]] = []

    def validate(self, raw: Mapping[str, Any], now: int) -> dict[str, Any]:
        if "id" not in raw:
            raise InputError("No id.", "Give one.")
        if raw["id"] == "poison":
            raise ZeroDivisionError("a mistake of ours")
        event = {"_type": "click", "_id": raw["id"], "_time": now}
        return event | {"_id": retraction_id(raw["id"]), "_retracts": True} if "retracts" in raw else event

    def lateness(self, event: Mapping[str, Any], now: int) -> str:
        return "late" if event["_id"] == "late" else ""

    def refuses_late(self, event: Mapping[str, Any]) -> bool:
        return False

    def reject(self, raw: Mapping[str, Any], reason: str, detail: str, now: int) -> None:
        self.rejected.append((reason, detail))


class Rig:
    def __init__(self, folder: Path) -> None:
        self.log = WriteAheadLog(folder)
        self.applied: list[str] = []
        self.lock = threading.Lock()
        self.intake = Intake()
        self.writer = EventWriter(self.log, self.intake, KnownIds(), Clock(), self.apply)

    def apply(self, events: Sequence[Mapping[str, Any]]) -> None:
        with self.lock:
            assert self.log.synced_lsn == self.log.next_lsn, "applied before durable"
            self.applied += [event["_id"] for event in events]

    def statuses(self, *identifiers: str) -> list[str]:
        outcomes = self.writer.submit([{"id": each} if each else {} for each in identifiers]).result(10)
        return [outcome.status for outcome in outcomes]

    def retract(self, *identifiers: str) -> list[str]:
        outcomes = self.writer.submit([{"id": each, "retracts": True} for each in identifiers]).result(10)
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


def test_a_poison_event_is_rejected_alone(rig: Rig) -> None:
    assert rig.statuses("a", "poison", "b") == ["accepted", "rejected", "accepted"]
    assert rig.intake.rejected == [("unexpected error", "ZeroDivisionError: a mistake of ours")]
    assert rig.statuses("c") == ["accepted"] and rig.applied == ["a", "b", "c"]
    rig.close()


def test_only_what_is_known_is_taken_back_and_only_once(rig: Rig) -> None:
    assert rig.retract("a") == ["rejected"]
    assert rig.intake.rejected[0][0] == "nothing to take back"
    assert rig.statuses("a") == ["accepted"]
    assert rig.retract("a", "a", "b") == ["accepted", "duplicate", "rejected"]
    assert rig.retract("a") == ["duplicate"] and rig.statuses("a") == ["duplicate"]
    outcomes = rig.writer.submit([{"id": "c", "retracts": 1}, {"id": "c"}, {"id": "c", "retracts": 1}]).result(10)
    assert [outcome.status for outcome in outcomes] == ["rejected", "accepted", "accepted"]
    assert rig.applied == ["a", "a#retracted", "c", "c#retracted"]
    rig.close()


def test_late_events_are_counted_and_their_senders_told(rig: Rig) -> None:
    (early, late) = rig.writer.submit([{"id": "early"}, {"id": "late"}]).result(10)
    assert (early.reason, late.reason, late.status, rig.writer.late) == ("", "late", "accepted", 1)
    rig.close()


def test_an_event_loop_is_answered(rig: Rig) -> None:
    async def send() -> list[str]:
        waiting = [rig.writer.submit_here([{"id": str(number)}]) for number in range(30)]
        given_up = rig.writer.submit_here([{"id": "gone"}])
        given_up.cancel()
        return [outcome.status for each in waiting for outcome in await each]

    assert asyncio.run(send()) == ["accepted"] * 30
    rig.close()


def test_what_is_durable_and_refused_by_the_state_stops_the_writer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise InputError("Not so.", "Never.")

    monkeypatch.setattr(rig.writer, "_apply", refuse)
    with pytest.raises(UnavailableError, match="internal error"):
        rig.statuses("a")
    rig.close()


def test_a_disk_that_fills_and_is_freed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes half a group, then nothing; once it is freed, all that was acknowledged is there, once."""
    write, room = os.write, [None]

    def fill(descriptor: int, data: memoryview) -> int:
        if room[0] is None:
            return write(descriptor, data)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0], taken = 0, write(descriptor, data[: room[0]])
        return taken

    monkeypatch.setattr("bowerbird.log.live.write_ahead.os.write", fill)
    assert rig.statuses("a", "b") == ["accepted"] * 2
    for left in (0, 1, 70):
        room[0] = left
        with pytest.raises(StorageError, match="Free space"):
            rig.statuses("c", "d", "e")
    assert rig.applied == ["a", "b"]
    room[0] = None
    assert rig.statuses("a", "c", "d", "e") == ["duplicate", "accepted", "accepted", "accepted"]
    rig.close()
    with WriteAheadLog(rig.log.folder) as log:
        assert log.cut is None
        assert [payload["_id"] for _, payload in log.iterate()] == ["a", "b", "c", "d", "e"] == rig.applied


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
