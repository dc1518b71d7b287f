from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bowerbird import declare as bb
from bowerbird.declare.workspace import Settings, Workspace
from bowerbird.log.dead_letters import read_dead_letters
from bowerbird.log.live.write_ahead import WriteAheadLog
from bowerbird.serving.clock import Clock
from bowerbird.serving.intake import LiveIntake
from bowerbird.serving.known_ids import KnownIds
from bowerbird.serving.submission import Outcome
from bowerbird.serving.writer import EventWriter
from tests.log import shop
from tests.log.shop import NOW

MINUTE = 60_000_000


class Rig:
    """A writer whose clock stands at NOW, and what it applied."""

    def __init__(self, folder: Path, order: bb.Event = shop.order) -> None:
        project = bb.Project("shop", shop.shown, shop.item, shop.user, [order], [shop.items])
        self.workspace = Workspace(folder, project, Settings())
        self.log = WriteAheadLog(self.workspace.wal_folder)
        self.applied: list[dict[str, Any]] = []
        clock = Clock(lambda: NOW)
        self.writer = EventWriter(self.log, LiveIntake(self.workspace), KnownIds(), clock, self.applied.extend)

    def send(self, *events: dict[str, Any]) -> list[Outcome]:
        whole = [{"type": "order", "user": "ann", "item": 1} | event for event in events]
        return self.writer.submit(whole).result(10)

    def letters(self) -> list[tuple[str, str]]:
        return [(letter.reason, letter.detail) for letter in read_dead_letters(self.workspace.dead_letter_folder)]

    def close(self) -> None:
        self.writer.close()
        self.log.close()


def test_clocks_that_are_minutes_apart_are_believed_and_further_ones_are_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    skews = [-600, -14, -3, 0, 3, 14, 15]
    assert {each.status for each in rig.send(*({"time": NOW + skew * MINUTE} for skew in skews))} == {"accepted"}
    (ahead,) = rig.send({"time": NOW + 15 * MINUTE + 1})
    assert ahead.status == "rejected" and "an event from the future" in ahead.reason
    assert [reason for reason, _ in rig.letters()] == ["rejected event"]
    stored = [payload for _, payload in rig.log.iterate()]
    assert [payload["_time"] for payload in stored] == [NOW + skew * MINUTE for skew in skews]
    assert {payload["_available"] for payload in stored} == {NOW}
    rig.close()


@pytest.mark.parametrize("beyond", ["apply", "reject"])
def test_an_event_beyond_its_lateness(tmp_path: Path, beyond: Any) -> None:
    rig = Rig(tmp_path, replace(shop.order, lateness="5m", delay="1m", beyond=beyond))
    in_time, late = rig.send({"time": NOW - 6 * MINUTE}, {"time": NOW - 6 * MINUTE - 1})
    assert (in_time.status, in_time.reason) == ("accepted", "")
    assert "'order' comes 0:06:00.000001 after its time; its declared lateness is 5m." in late.reason
    if beyond == "apply":
        assert (late.status, rig.writer.late, len(rig.applied), rig.letters()) == ("accepted", 1, 2, [])
    else:
        assert (late.status, rig.writer.late, len(rig.applied)) == ("rejected", 0, 1)
        assert [reason for reason, _ in rig.letters()] == ["later than declared"]
    rig.close()


def test_an_old_event_is_taken_back_however_late(tmp_path: Path) -> None:
    rig = Rig(tmp_path, replace(shop.order, lateness="5m", beyond="reject"))
    event = {"id": "a", "time": NOW - 4 * MINUTE, "amount": 2}
    assert rig.send(event)[0].status == "accepted"
    rig.writer._clock = Clock(lambda: NOW + 60 * MINUTE)
    assert [each.status for each in rig.send(event | {"retracts": True}, event)] == ["accepted", "duplicate"]
    assert rig.send({"id": "b", "time": NOW, "retracts": True})[0].status == "rejected"
    assert [reason for reason, _ in rig.letters()] == ["nothing to take back"]
    assert [each["_id"] for each in rig.applied] == ["a", "a#retracted"]
    rig.close()
