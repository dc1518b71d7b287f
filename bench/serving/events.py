"""Exposures that come beside requests, over several connections as from an app's own servers."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid

from bench.common import Row

BATCH = 50
"""Events in a request."""
CONNECTIONS = 4


class Events:
    """Sends exposures at a rate until stopped; each connection waits for an answer before it sends more."""

    def __init__(self, port: int, rate: float, bodies: list[bytes], connections: int = CONNECTIONS) -> None:
        self._senders = [_Sender(port, rate / connections, bodies) for _ in range(connections)]

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            sender.start()

    def stop(self) -> None:
        """Send nothing more, and wait for the last answers."""
        for sender in self._senders:
            sender.stopping.set()
        for sender in self._senders:
            sender.join()

    @property
    def rate(self) -> float:
        """How many events a second were acknowledged."""
        return sum(sender.sent / sender.seconds for sender in self._senders)

    def row(self) -> Row:
        """Return what was acknowledged."""
        sent, broken = (sum(getattr(sender, name) for sender in self._senders) for name in ("sent", "broken"))
        note = f"{sent:,} in all over {len(self._senders)} connections, which were lost {broken} times"
        return Row("events beside", self.rate, "events/s", note=note)


class _Sender(threading.Thread):
    """Sends batches when they are due over one connection; ``broken`` counts how often that was lost."""

    def __init__(self, port: int, rate: float, bodies: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._pause = BATCH / rate
        self._asked = [json.loads(body) for body in bodies]
        self.sent = self.broken = 0
        self.seconds = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        began = due = time.perf_counter()
        while not self.stopping.is_set():
            due += self._pause
            try:
                self._send(connection)
            except (OSError, http.client.HTTPException):
                self.broken += 1
                connection.close()
            time.sleep(max(0.0, due - time.perf_counter()))
        self.seconds = time.perf_counter() - began

    def _send(self, connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/v1/events", json.dumps({"events": [self._event(n) for n in range(BATCH)]}))
        answer = json.loads(connection.getresponse().read())
        assert answer["accepted"] == BATCH, answer["events"][:1]
        self.sent += BATCH

    def _event(self, number: int) -> dict[str, object]:
        asked = self._asked[(self.sent + number) % len(self._asked)]
        return {"type": "exposure", "id": uuid.uuid4().hex, "user": asked["user"], "video": asked["candidates"][0]}
