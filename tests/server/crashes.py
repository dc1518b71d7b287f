"""A series of crashes against one data folder that keeps growing; it can be interrupted and goes on from its folder.

Each run starts a server, which recovers from the crash before it, asks it for every user's features, lets clients send
and ask, and ends it: by ``kill -9``, and where ``lossy`` by dropping what was not synced, too. Where it dies is drawn:
while it writes, in a snapshot, in its own recovery. After each run every acknowledged event must stand in the log once,
and nothing twice; what servers answered must be, bit for bit, what replaying the log gives.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.durable import TEMPORARY_PREFIX, write_atomically
from bowerbird.errors import UnavailableError
from bowerbird.monitoring.parity import check_parity
from bowerbird.serving.slates import iterate_slates
from tests.server.forked import ForkedServer, ForkingProcess, Orders
from tests.server.load import Event, Traffic, logged_ids
from tests.server.lossy import drop_unsynced
from tests.server.tiny import ITEMS, USERS, make_live, make_workspace, publish

POINTS = ("writing", "snapshot", "recovery", "writing")
"""Where the servers of successive runs die."""
COMPARED_TOGETHER = 10
"""After so many runs what their servers answered is compared with a replay of the log."""
SNAPSHOT_EVENTS = 30
_WRITING_SECONDS = 0.5
_SNAPSHOT_SECONDS = 0.005


class Counts(msgspec.Struct):
    """What a series has found so far.

    ``killed`` runs by where they died; ``lost`` acknowledged events, ``doubled`` ones of any kind; ``unequal`` of the
    ``values`` in ``slates``, which ``recoveries`` servers answered after a crash. ``dropped_bytes`` were not synced,
    ``cut_snapshots`` unfinished.
    """

    killed: dict[str, int] = msgspec.field(default_factory=dict)
    acknowledged: int = 0
    logged: int = 0
    lost: int = 0
    doubled: int = 0
    recoveries: int = 0
    slates: int = 0
    values: int = 0
    unequal: int = 0
    dropped_bytes: int = 0
    cut_snapshots: int = 0
    seconds: float = 0.0

    @property
    def runs(self) -> int:
        """How many servers were killed."""
        return sum(self.killed.values())

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or unequal."""
        return self.lost == self.doubled == self.unequal == 0

    @property
    def progress(self) -> str:
        """The counts that grow from run to run, in short."""
        found = f"{self.lost} lost, {self.doubled} doubled, {self.unequal} of {self.values:,} values unequal"
        return f"{self.acknowledged:,} events acknowledged, {found}, {self.seconds / self.runs:.1f} s a run"

    def __str__(self) -> str:
        places = ", ".join(f"{count} in {point}" for point, count in self.killed.items())
        return (
            f"{self.runs} runs ({places}; {self.cut_snapshots} snapshots cut, {self.dropped_bytes:,} bytes dropped): "
            f"{self.acknowledged:,} events acknowledged, {self.lost} lost, {self.doubled} doubled; "
            f"{self.recoveries} recoveries, {self.slates:,} slates, {self.unequal} of {self.values:,} values unequal; "
            f"{self.seconds:.0f} seconds"
        )


class _Kept(msgspec.Struct):
    """What goes on with an interrupted series."""

    counts: Counts
    unanswered: list[Event]


def prepare(folder: Path) -> Workspace:
    """Return a workspace whose version 1 is live, made where it is not there."""
    done = folder / "prepared"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        workspace = make_workspace(folder / "tiny")
        publish(workspace, 1)
        make_live(workspace, 1)
        done.touch()
    return load_workspace(folder / "tiny")


class CrashSeries:
    """Crashes one after another; ``counts`` is their sum, kept in the folder after each run."""

    def __init__(self, folder: Path, workspace: Workspace, lossy: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (workspace.folder / "bowerbird.toml").write_text(f"[state]\nsnapshot_events = {SNAPSHOT_EVENTS}\n")
        self._workspace = workspace
        self._lossy = lossy
        self._file = folder / "series.json"
        self._acknowledged_file = folder / "acknowledged.jsonl"
        self._answered = folder / "answered"
        self._notes = folder / "notes"
        for made in (self._notes, self._answered):
            made.mkdir(exist_ok=True)
        kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept) if self._file.exists() else _Kept(Counts(), [])
        self.counts, self._unanswered = kept.counts, kept.unanswered
        self._acknowledged = self._read_acknowledged()
        self._start_seconds = 1.0

    def run(self, runs: int, say: Callable[[str], None] = lambda text: None, seconds: float = float("inf")) -> bool:
        """Go on until so many runs are done and a last server has recovered, or the seconds are over; False then.

        Stops, too, where something is lost, doubled or unequal.
        """
        started = time.monotonic()
        with ForkingProcess(self._bundle, self._workspace.folder / "serve.log") as parent:
            while self.counts.runs < runs and self.counts.holds:
                if time.monotonic() - started > seconds:
                    return False
                self._crash(parent)
                say(f"{self.counts.runs} of {runs} runs, {self.counts.progress}")
            self._recover_at_last(parent)
        return True

    @property
    def _bundle(self) -> Path:
        return self._workspace.bundles_folder / "din" / "1"

    def _crash(self, parent: ForkingProcess) -> None:
        chance = random.Random(self.counts.runs)
        point = POINTS[self.counts.runs % len(POINTS)]
        server = parent.fork(self._orders(point, chance))
        began = time.monotonic()
        if point == "recovery":
            threading.Timer(chance.uniform(0, 1.2 * self._start_seconds), server.signal).start()
        address = server.wait_until_ready()
        if address and point != "recovery":
            self._start_seconds = time.monotonic() - began
            self._serve_until_dead(server, address, point, chance)
        server.wait()
        self._after_the_crash(point)
        self.counts.seconds += time.monotonic() - began
        self._keep()

    def _orders(self, point: str, chance: random.Random) -> Orders:
        notes = str(self._notes) if self._lossy else ""
        if point != "snapshot":
            return Orders(str(self._workspace.folder), notes)
        return Orders(str(self._workspace.folder), notes, chance.randint(1, 3), chance.uniform(0, _SNAPSHOT_SECONDS))

    def _serve_until_dead(self, server: ForkedServer, address: str, point: str, chance: random.Random) -> None:
        try:
            self._ask_everyone(address)
        except UnavailableError:
            if point != "snapshot":
                raise
            return
        traffic = Traffic(address, senders=3, askers=2, resend=self._unanswered)
        if point == "writing":
            traffic.wait_for_both()
            time.sleep(chance.uniform(0.0, _WRITING_SECONDS))
            server.signal()
        server.wait()
        traffic.stop()
        self._unanswered = list(traffic.unanswered.values())
        self._add_acknowledged(traffic.acknowledged)

    def _ask_everyone(self, address: str) -> None:
        """Have the recovered state's features answered, and put the answers where no crash comes."""
        with Client(address) as client:
            for user in range(USERS):
                client.score("home", user, [f"i{number}" for number in range(ITEMS)])
        self.counts.recoveries += self.counts.runs > 0
        self._put_away()

    def _put_away(self) -> None:
        shutil.copytree(self._workspace.slates_folder, self._answered, dirs_exist_ok=True)

    def _after_the_crash(self, point: str) -> None:
        counts = self.counts
        counts.killed[point] = counts.killed.get(point, 0) + 1
        counts.cut_snapshots += len(list(self._workspace.state_folder.glob(f"*/{TEMPORARY_PREFIX}*")))
        if self._lossy:
            counts.dropped_bytes += drop_unsynced(self._workspace.wal_folder, self._notes)
        elif self._workspace.slates_folder.exists():
            self._put_away()
        shutil.rmtree(self._workspace.slates_folder, ignore_errors=True)
        self._count_ids()
        if counts.runs % COMPARED_TOGETHER == 0:
            self._compare()

    def _count_ids(self) -> None:
        logged = logged_ids(self._workspace)
        self.counts.logged = logged.total()
        self.counts.acknowledged = len(self._acknowledged)
        self.counts.lost = len(self._acknowledged - set(logged))
        self.counts.doubled = sum(count > 1 for count in logged.values())

    def _compare(self) -> None:
        report = check_parity(self._workspace, iterate_slates(self._answered))
        self.counts.slates += report.slates
        self.counts.values += report.values + report.scores
        self.counts.unequal += report.values - report.equal_values + report.scores - report.scores_within_tolerance
        shutil.rmtree(self._answered)
        self._answered.mkdir()

    def _recover_at_last(self, parent: ForkingProcess) -> None:
        """Recover from the last crash, send again what nobody answered, and compare."""
        server = parent.fork(Orders(str(self._workspace.folder)))
        address = server.wait_until_ready()
        self._ask_everyone(address)
        with Client(address) as client:
            assert client.send_events(self._unanswered).rejected == 0
        self._add_acknowledged({(str(event["type"]), str(event["id"])) for event in self._unanswered})
        self._unanswered = []
        self._ask_everyone(address)
        server.signal()
        server.wait()
        shutil.rmtree(self._workspace.slates_folder)
        self._count_ids()
        self._compare()
        self._keep()

    def _read_acknowledged(self) -> set[tuple[str, str]]:
        lines = self._acknowledged_file.read_bytes().splitlines() if self._acknowledged_file.exists() else []
        return {msgspec.json.decode(line, type=tuple[str, str]) for line in lines}

    def _add_acknowledged(self, names: set[tuple[str, str]]) -> None:
        with self._acknowledged_file.open("ab") as stream:
            stream.write(b"".join(msgspec.json.encode(name) + b"\n" for name in names))
        self._acknowledged |= names

    def _keep(self) -> None:
        write_atomically(self._file, msgspec.json.encode(_Kept(self.counts, self._unanswered)))
