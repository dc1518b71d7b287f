"""Uvicorn as a server of ours: bounded connections, companions beside it, a drain at the end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import uvicorn

from bowerbird.errors import BowerbirdError, InputError, UnavailableError
from bowerbird.server.application import Application
from bowerbird.server.web.access import KeyStore
from bowerbird.server.web.connection_limits import ConnectionLimits
from bowerbird.server.web.outbox import Outbox
from bowerbird.server.web.protocol import BoundedProtocol, sweep

_LOG = logging.getLogger("bowerbird.server")
DRAIN_SECONDS = 30
_BACKLOG = 2048
Companion = Callable[[], Coroutine[Any, Any, None]]
"""What runs on the event loop beside the server, until it is cancelled."""


class OtherServer(Protocol):
    """A server of another protocol on the same event loop."""

    async def start(self) -> None:
        """Listen."""
        ...

    async def stop(self, seconds: float) -> None:
        """Take nothing new, and let what is in flight end for so long."""
        ...


def uvicorn_config(application: Application, limits: ConnectionLimits, idle_seconds: int) -> uvicorn.Config:
    """Return how uvicorn runs an application; what it says of every malformed request is left out of the log."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, limits, application, Outbox())),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


class HttpServer(uvicorn.Server):
    """Uvicorn with companions; a signal ends it as it should: by draining, then returning to the caller.

    ``error`` is why ``other`` did not start, which ends the server.
    """

    def __init__(
        self, config: uvicorn.Config, companions: Sequence[Companion] = (), other: OtherServer | None = None
    ) -> None:
        super().__init__(config)
        self._companions = companions
        self._other = other
        self.error: BowerbirdError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self._other is None:
            return
        try:
            await self._other.start()
        except BowerbirdError as error:
            self.error, self.should_exit = error, True

    async def main_loop(self) -> None:
        """Serve until told to stop, and close slow connections meanwhile."""
        running = [asyncio.create_task(sweep(lambda: self.server_state.connections))]
        running += [asyncio.create_task(each()) for each in self._companions]
        try:
            await super().main_loop()
            await self._drain()
        finally:
            for task in running:
                task.cancel()

    async def _drain(self) -> None:
        """Let requests in flight end while companions still run; uvicorn's own shutdown follows."""
        draining = [self._drain_connections()]
        if self._other is not None:
            draining.append(self._other.stop(DRAIN_SECONDS))
        await asyncio.gather(*draining)

    async def _drain_connections(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.server_state.tasks and not self.force_exit:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            _LOG.error("%d requests were not answered within %d s", len(self.server_state.tasks), DRAIN_SECONDS)

    async def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that another process accepted."""
        config = self.config
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            connection,
        )
        if self.should_exit:
            protocol.shutdown()  # type: ignore[attr-defined]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT (twice: at once) while serving."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former: dict[int, Any] = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def check_exposed(host: str, keys: KeyStore) -> None:
    """Raise InputError for an address that others reach while no API key exists."""
    if keys.records():
        return
    if not _is_loopback(host):
        raise InputError(
            f"The server would listen at {host} without any API key.",
            "Make one with `bowerbird keys create NAME --scope read`, or listen at 127.0.0.1.",
        )
    _LOG.warning("no API key exists: everyone on this machine may read and write")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that listens; raises UnavailableError for an address in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UnavailableError(
                f"The server cannot listen at {host}:{port}: {error}.", "Stop what uses it, or choose --port."
            ) from error
        listening.listen(_BACKLOG)
        yield listening


def address_of(host: str, listening: socket.socket) -> str:
    """Return the address that clients use."""
    return f"http://{host}:{listening.getsockname()[1]}"
