"""What the processes of a server say to each other: calls to the writer, and news from it.

Messages are msgpack behind their length, on a Unix socket. A call is ``[number, kind, payload]``, its answer
``[number, true, payload]`` or ``[number, false, [code, what, remedy]]``; news is ``[0, kind, payload]``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bowerbird.errors import BowerbirdError, UnavailableError, error_from

_LOG = logging.getLogger("bowerbird.server")
_LENGTH_BYTES = 4
_RETRY_SECONDS = 0.1
_CALL_SECONDS = 120.0
_GONE = "The process that writes events is not there."
_AGAIN = "It is being started again: send the request once more in a moment."
Handler = Callable[[Any], Awaitable[Any]]


def _encoded(message: Sequence[Any]) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(_LENGTH_BYTES, "little") + payload


async def _read(reader: asyncio.StreamReader) -> list[Any]:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "little")
    message: list[Any] = msgspec.msgpack.decode(await reader.readexactly(length))
    return message


class RelayServer:
    """The writer's side: answers calls by ``handlers`` and tells news to whoever is connected."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._connected: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in self._connected:
                writer.close()

    def tell(self, kind: str, payload: Any) -> None:
        """Tell news to every process, from any thread."""
        if self._loop is not None and self._connected:
            self._loop.call_soon_threadsafe(self._tell, _encoded([0, kind, payload]))

    def _tell(self, message: bytes) -> None:
        for writer in self._connected:
            writer.write(message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.add(writer)
        calls: set[asyncio.Task[None]] = set()
        try:
            while True:
                number, kind, payload = await _read(reader)
                task = asyncio.create_task(self._answer(writer, number, kind, payload))
                calls.add(task)
                task.add_done_callback(calls.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connected.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, number: int, kind: str, payload: Any) -> None:
        try:
            answer = [number, True, await self._handlers[kind](payload)]
        except BowerbirdError as error:
            answer = [number, False, [error.code, error.what, error.remedy]]
        except Exception as error:
            _LOG.exception("a call of another process failed: %s", kind)
            answer = [number, False, [BowerbirdError.code, f"{type(error).__name__}: {error}", "See the server's log."]]
        writer.write(_encoded(answer))


class RelayClient:
    """A reader's side: calls the writer, hears its news; connects again when the writer was started anew.

    ``on_connect`` is called on the event loop after each connection, ``news`` with what the writer tells.
    """

    def __init__(
        self, path: Path, on_connect: Callable[[], None], news: Mapping[str, Callable[[Any], object]]
    ) -> None:
        self._path = path
        self._on_connect = on_connect
        self._news = news
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                self._on_connect()
                await self._listen(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                self._lose()

    async def call(self, kind: str, payload: Any) -> Any:
        """Return the writer's answer; raises its error, UnavailableError where the writer is not there."""
        if self._writer is None:
            raise UnavailableError(_GONE, _AGAIN)
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self._writer.write(_encoded([number, kind, payload]))
            return await asyncio.wait_for(future, _CALL_SECONDS)
        finally:
            self._calls.pop(number, None)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            number, kind, payload = await _read(reader)
            if number == 0:
                self._news[kind](payload)
                continue
            future = self._calls.get(number)
            if future is None or future.done():
                continue
            if kind is True:
                future.set_result(payload)
            else:
                future.set_exception(error_from(*payload))

    def _lose(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        for future in self._calls.values():
            if not future.done():
                future.set_exception(UnavailableError(_GONE, _AGAIN))
