"""A write-ahead log of clicks on disk with a live state that follows it: what tests of snapshots start and stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird.declare.workspace import StateSettings, Workspace, load_workspace
from bowerbird.log.live.write_ahead import open_wal
from bowerbird.log.reader import LogReader
from bowerbird.log.snapshots import open_snapshots
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.plan.spec import Plan
from bowerbird.serving.clock import Clock
from bowerbird.serving.log_access import LogHistory
from bowerbird.serving.shared_folder import open_shared_folder
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_groups import StateMaker
from bowerbird.serving.state_keeper import StateKeeper

NOW = 1_700_000_000_000_000
USERS, ITEMS = 50, 40
DECLARATIONS = """
from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.TEXT)
items = bb.Table("items", item, {"genre": bb.TEXT, "price": bb.NUMBER})
exposure = bb.Exposure("exposure", [user, item])
click = bb.Event("click", [user, item], {"amount": bb.NUMBER})
history = bb.sequence(click, by=user, length=5, fields=[item, items["genre"]])
features = {
    "clicks_1h": bb.count(click, by=user, window="1h"),
    "clicks_item": bb.count(click, by=item, window="1d"),
    "mean": bb.mean(click, click["amount"], by=[user, items["genre"]], window=bb.Decay("1h")),
    "price": bb.number(items["price"]),
    "history": history,
    "top": bb.match(history, items["genre"]),
}
project = bb.Project(
    name="small", exposure=exposure, user=user, item=item, events=[click], tables=[items],
    features=features, labels=[bb.Label("click", click, within="1h")], sources=[],
)
"""


def make_workspace(folder: Path, settings: str = "") -> Workspace:
    """Return a workspace without any record."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(DECLARATIONS)
    (folder / "bowerbird.toml").write_text(settings)
    return load_workspace(folder)


def event(number: int) -> dict[str, Any]:
    """Return the record of a number: an item's attributes now and then, clicks otherwise."""
    time = NOW + number * 50_000
    if number % 17 == 0:
        row = {"item": f"i{number % ITEMS}", "genre": f"g{number % 7}", "price": number / 8}
        return {"_type": "items", "_id": str(number), "_time": time, **row}
    user, item = number * 7 % USERS, f"i{number * 13 % ITEMS}"
    return {"_type": "click", "_id": str(number), "_time": time, "user": user, "item": item, "amount": number % 9 / 2}


def events(first: int, last: int) -> list[dict[str, Any]]:
    """Return the records [first, last)."""
    return [event(number) for number in range(first, last)]


class Following:
    """A log, the live state of a plan and what keeps it: a server without HTTP."""

    def __init__(self, workspace: Workspace, plan: Plan | None = None) -> None:
        self.workspace = workspace
        self.log = open_wal(workspace)
        self.snapshots = open_snapshots(workspace)
        settings: StateSettings = workspace.settings.state
        maker = StateMaker(settings, open_shared_folder(workspace))
        history = LogHistory(workspace, threading.Event())
        self.state = LiveState(history, self.log.next_lsn, self.snapshots, maker)
        self.plan = plan or compile_plan(workspace.project)
        self.view = self.state.require(self.plan)
        self.keeper = StateKeeper(self.state, self.snapshots, settings, Clock())

    def send(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Make records durable, then visible."""
        self.log.append(payloads, NOW)
        self.log.sync()
        self.state.apply([dict(payload) for payload in payloads])

    def crash(self) -> None:
        """Leave everything as it is, as a killed process does."""
        self.keeper._stopping.set()
        self.keeper._thread.join()
        self.log.close()

    def stop(self) -> None:
        """Stop as a server does."""
        self.keeper.close()
        self.state.close()
        self.log.close()

    def read(self, time: int | None = None) -> list[FeatureBlock]:
        """Return the features of every item for some users."""
        at = time or NOW + self.state.lsn * 50_000
        keys = self.view.encoder.encode_items([f"i{number}" for number in range(ITEMS)])
        return [self.view.read(at, user, {}, keys) for user in range(0, USERS, 7)]


def replayed(workspace: Workspace, plan: Plan, lsn: int, time: int | None = None) -> list[FeatureBlock]:
    """Return what ``Following.read`` gives, from a new replay of the log up to an LSN."""
    encoder, engine = Encoder(plan), build_engine(plan)
    for batch in LogReader(workspace).batches(plan, encoder, 0, lsn):
        engine.apply(batch.records)
    keys = encoder.encode_items([f"i{number}" for number in range(ITEMS)])
    at = time or NOW + lsn * 50_000
    return [engine.read(at, encoder.encode_request(user, {}), keys) for user in range(0, USERS, 7)]


def assert_equal(found: Sequence[FeatureBlock], wanted: Sequence[FeatureBlock]) -> None:
    """Compare blocks bit for bit, LSNs included."""
    for left, right in zip(found, wanted, strict=True):
        assert left.lsn == right.lsn
        for name, values in right.numbers.items():
            np.testing.assert_array_equal(left.numbers[name].view(np.uint32), values.view(np.uint32), name)
        for name, keys in right.categories.items():
            np.testing.assert_array_equal(left.categories[name], keys, name)
        for name, ragged in right.sequences.items():
            own = left.sequences[name]
            np.testing.assert_array_equal(own.offsets, ragged.offsets, name)
            np.testing.assert_array_equal(own.age.view(np.uint32), ragged.age.view(np.uint32), name)
            for field, column in ragged.fields.items():
                np.testing.assert_array_equal(own.fields[field], column, f"{name}.{field}")
