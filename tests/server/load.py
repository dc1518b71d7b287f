"""Clients that ask and report at the same time, and remember what they were told."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError
from bowerbird.log.reader import LogReader
from tests.server.tiny import ITEMS, USERS

Event = dict[str, object]


def new_event(chance: random.Random) -> Event:
    """Return an event with an id of its own."""
    event: Event = {
        "type": chance.choice(["click", "click", "order", "exposure"]),
        "id": uuid.uuid4().hex,
        "user": chance.randrange(USERS),
        "item": f"i{chance.randrange(ITEMS)}",
    }
    if event["type"] == "order":
        event["amount"] = chance.random() * 10
    return event


def _name(event: Event) -> tuple[str, str]:
    return str(event["type"]), str(event["id"])


class Traffic:
    """Threads that send events and ask for scores until stopped.

    ``acknowledged`` and ``unanswered`` hold (type, id) and the event, those to ``resend`` too; ``failures`` what
    went wrong.
    """

    def __init__(self, address: str, senders: int, askers: int, *, resend: list[Event] | None = None) -> None:
        self.acknowledged: set[tuple[str, str]] = set()
        self.unanswered: dict[tuple[str, str], Event] = {_name(event): event for event in resend or []}
        self.failures: list[BowerbirdError] = []
        self.scores = 0
        self._resend = list(resend or [])
        self._address = address
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        loops = [self._send] * senders + [self._ask] * askers
        self._threads = [threading.Thread(target=self._run, args=(loop, seed)) for seed, loop in enumerate(loops)]
        for thread in self._threads:
            thread.start()

    def wait_for_both(self) -> None:
        """Wait until an event was acknowledged and a request answered."""
        deadline = time.monotonic() + 60
        while not (self.acknowledged and self.scores):
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop after the requests in flight."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, loop: Callable[[Client, random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        with Client(self._address) as client:
            while not self._stopping.is_set():
                try:
                    loop(client, chance)
                except BowerbirdError as error:
                    with self._lock:
                        self.failures.append(error)
                    return

    def _send(self, client: Client, chance: random.Random) -> None:
        with self._lock:
            again, self._resend = self._resend[:20], self._resend[20:]
        events = again + [new_event(chance) for _ in range(chance.randrange(1, 6))]
        named = {_name(event): event for event in events}
        with self._lock:
            self.unanswered |= named
        outcomes = client.send_events(events).events
        assert all(outcome.status in ("accepted", "duplicate") for outcome in outcomes), outcomes
        with self._lock:
            self.acknowledged |= set(named)
            for name in named:
                self.unanswered.pop(name, None)

    def _ask(self, client: Client, chance: random.Random) -> None:
        items = [f"i{chance.randrange(ITEMS + 3)}" for _ in range(chance.randrange(1, 30))]
        context = {"page": chance.randrange(4), "speed": chance.random()}
        features = {"price": chance.random()} if chance.random() < 0.2 else {}
        client.score("home", chance.randrange(USERS), items, context=context, features=features)
        with self._lock:
            self.scores += 1


def logged_ids(workspace: Workspace) -> Counter[tuple[str, str]]:
    """Return how often each (type, id) stands in the log."""
    reader = LogReader(workspace)
    counts: Counter[tuple[str, str]] = Counter()
    for record in workspace.project.record_types:
        counts.update((record.name, identifier) for identifier in reader.records(record.name).column("_id").to_pylist())
    return counts
