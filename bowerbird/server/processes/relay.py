"""What the processes of a server say to each other: calls to the writer, news and questions from it.

Messages are msgpack behind their length, on a Unix socket. A call is ``[number, kind, payload]``, its answer
``[number, true, payload]`` or ``[number, false, [code, what, remedy]]``; news is ``[0, kind, payload]``. A question of
the writer's is a call whose number is negative.
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


async def _answer(handlers: Mapping[str, Handler], number: int, kind: str, payload: Any) -> bytes:
    try:
        return _encoded([number, True, await handlers[kind](payload)])
    except BowerbirdError as error:
        return _encoded([number, False, [error.code, error.what, error.remedy]])
    except Exception as error:
        _LOG.exception("a call of another process failed: %s", kind)
        what = f"{type(error).__name__}: {error}"
        return _encoded([number, False, [BowerbirdError.code, what, "See the server's log."]])


class RelayServer:
    """The writer's side: answers calls by ``handlers``, tells news to whoever is connected, asks them questions."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._connected: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count(-1, -1)
        self._asked: dict[int, tuple[asyncio.StreamWriter, asyncio.Future[None]]] = {}

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

    @property
    def connected(self) -> int:
        """How many processes hear the news."""
        return len(self._connected)

    def tell(self, kind: str, payload: Any) -> None:
        """Tell news to every process, from any thread."""
        if self._loop is not None and self._connected:
            self._loop.call_soon_threadsafe(self._tell, _encoded([0, kind, payload]))

    def _tell(self, message: bytes) -> None:
        for writer in self._connected:
            writer.write(message)

    async def ask(self, kind: str, payload: Any) -> None:
        """Return once every connected process has done what the question says, or has gone.

        What went wrong in another process stands in its own log. Raises UnavailableError where one does not answer.
        """
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await asyncio.gather(*(self._ask(each, kind, payload) for each in self._connected))
        except TimeoutError:
            raise UnavailableError(
                f"Another process did not answer {kind!r} within {_CALL_SECONDS:.0f} s.", "See its log."
            ) from None

    async def _ask(self, writer: asyncio.StreamWriter, kind: str, payload: Any) -> None:
        number = next(self._numbers)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[number] = writer, future
        try:
            writer.write(_encoded([number, kind, payload]))
            await future
        finally:
            del self._asked[number]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.add(writer)
        calls: set[asyncio.Task[None]] = set()
        try:
            while True:
                number, kind, payload = await _read(reader)
                if number < 0:
                    self._note(number)
                    continue
                task = asyncio.create_task(self._call(writer, number, kind, payload))
                calls.add(task)
                task.add_done_callback(calls.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._lose(writer)

    async def _call(self, writer: asyncio.StreamWriter, number: int, kind: str, payload: Any) -> None:
        writer.write(await _answer(self._handlers, number, kind, payload))

    def _note(self, number: int) -> None:
        if number in self._asked and not self._asked[number][1].done():
            self._asked[number][1].set_result(None)

    def _lose(self, lost: asyncio.StreamWriter) -> None:
        self._connected.discard(lost)
        lost.close()
        for number in [number for number, (writer, _) in self._asked.items() if writer is lost]:
            self._note(number)


class RelayClient:
    """A reader's side: calls the writer, hears its news; connects again when the writer was started anew.

    ``on_connect`` is called on the event loop after each connection, ``news`` with what the writer tells; ``handlers``
    answer what it asks.
    """

    def __init__(
        self,
        path: Path,
        on_connect: Callable[[], None],
        news: Mapping[str, Callable[[Any], object]],
        handlers: Mapping[str, Handler],
    ) -> None:
        self._path = path
        self._on_connect = on_connect
        self._news = news
        self._handlers = handlers
        self._asked: set[asyncio.Task[None]] = set()
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
            if number < 0:
                task = asyncio.create_task(self._reply(number, kind, payload))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)
                continue
            future = self._calls.get(number)
            if future is None or future.done():
                continue
            if kind is True:
                future.set_result(payload)
            else:
                future.set_exception(error_from(*payload))

    async def _reply(self, number: int, kind: str, payload: Any) -> None:
        writer = self._writer
        answer = await _answer(self._handlers, number, kind, payload)
        if writer is not None:
            writer.write(answer)

    def _lose(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        for future in self._calls.values():
            if not future.done():
                future.set_exception(UnavailableError(_GONE, _AGAIN))
