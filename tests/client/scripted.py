"""A server on a real socket that does what it was told, request by request: answers, refuses, drips, hangs up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

Behaviour = Callable[[socket.socket], bool]
"""Does something with a connection after a request was read; returns whether the connection goes on."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived, and when."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


def answer(status: int, content: object, **headers: str) -> Behaviour:
    def act(connection: socket.socket) -> bool:
        body = json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    return act


def problem(status: int, code: str, **headers: str) -> Behaviour:
    return answer(status, {"code": code, "detail": "What.", "remedy": "Remedy."}, **headers)


def hang_up(connection: socket.socket) -> bool:
    return False


def answer_half(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 Said\r\ncontent-length: 1000\r\n\r\n{")
    return False


def say_nothing(seconds: float) -> Behaviour:
    def act(connection: socket.socket) -> bool:
        time.sleep(seconds)
        return False

    return act


def drip(seconds: float, every: float = 0.05) -> Behaviour:
    """Send a byte of the body now and then: each comes in time, the whole does not."""

    def act(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 Said\r\ncontent-length: 1000\r\n\r\n")
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                connection.sendall(b" ")
                time.sleep(every)
        except OSError:
            pass
        return False

    return act


class ScriptedServer:
    """Plays ``script`` once, one behaviour per request, in the order of arrival; then its last one for ever."""

    def __init__(self, *script: Behaviour) -> None:
        self._script = list(script)
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.seen: list[Seen] = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            for seen in _requests(connection):
                with self._lock:
                    self.seen.append(seen)
                    act = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                if not act(connection):
                    return


def _requests(connection: socket.socket) -> Iterator[Seen]:
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            part = _receive(connection)
            if not part:
                return
            received += part
        head, received = received.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(received) < length:
            received += _receive(connection)
        body, received = received[:length], received[length:]
        method, path, _ = first.split()
        yield Seen(method, path, headers, body, time.monotonic())


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""
