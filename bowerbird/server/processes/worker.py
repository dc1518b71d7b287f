"""One of several server processes: the first writes events and state, the others read its state."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError
from bowerbird.server.build import build_application
from bowerbird.server.observe.metrics_exchange import MetricsExchange
from bowerbird.server.processes.giving import Giving
from bowerbird.server.processes.handover import Busy, Connections, Failed, GiveAway, Ready, hand_over, received, tell
from bowerbird.server.processes.reader_startup import ReaderStartup
from bowerbird.server.processes.relay import RelayServer
from bowerbird.server.processes.writer_calls import writer_calls
from bowerbird.server.services import Services
from bowerbird.server.startup import Startup, WriterStartup
from bowerbird.server.web.http_server import Companion, HttpServer, uvicorn_config
from bowerbird.server.web.protocol import BoundedProtocol

_LOG = logging.getLogger("bowerbird.server")
WRITER = 0
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerPlace:
    """Which worker this is, its end of the pair with the supervisor, and the folder that the workers share."""

    number: int
    end: socket.socket
    folder: Path

    @property
    def relay(self) -> Path:
        """Where the writer listens for the others."""
        return self.folder / "writer.sock"


def run_worker(workspace: Workspace, place: WorkerPlace) -> int:
    """Serve connections that the supervisor hands over until SIGTERM or its end; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    services = Services(workspace)
    services.exchange = MetricsExchange(place.folder, place.number, services.metrics_text)
    startup, companion = _startup(services, place)
    worker = _Worker(services, place, startup)
    server = HttpServer(
        uvicorn_config(build_application(services), services.limits, workspace.settings.server.idle_seconds),
        [services.pool.serve, companion, worker.take_connections, services.exchange.run],
    )
    worker.serve(server)
    return 0 if startup.error is None else 1


def _startup(services: Services, place: WorkerPlace) -> tuple[Startup, Companion]:
    if place.number == WRITER:
        services.relay = RelayServer(place.relay, writer_calls(services))
        return WriterStartup(services), services.relay.run
    startup = ReaderStartup(services, place.relay)
    return startup, startup.link.run


class _Worker:
    """A worker's server, from its start to its drain."""

    def __init__(self, services: Services, place: WorkerPlace, startup: Startup) -> None:
        self._services = services
        self._end = place.end
        self._number = place.number
        self._startup = startup
        self._server: HttpServer | None = None
        self._taken = 0
        self._giving = Giving(self._open_connections, self._give_back)
        services.limits.on_close = self._report_connections

    def serve(self, server: HttpServer) -> None:
        """Start, serve, stop."""
        self._server = server
        starter = threading.Thread(target=self._start, name="start")
        starter.start()
        try:
            server.run([])
        finally:
            self._services.status.set("stopping")
            self._startup.cancel()
            starter.join()
            self._startup.stop()

    async def take_connections(self) -> None:
        """Adopt the connections that come, and tell how busy the worker is, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end.fileno(), self._take)
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                tell(self._end, Busy(self._giving.look()))
        finally:
            loop.remove_reader(self._end.fileno())

    def _take(self) -> None:
        assert self._server is not None
        found, more = received(self._end)
        for each in found:
            if isinstance(each, socket.socket):
                self._adopt(each)
            elif isinstance(each, GiveAway):
                self._giving.give(each.cores)
        if not more:
            _LOG.warning("the supervisor has gone: worker %d stops", self._number)
            self._server.should_exit = True
            asyncio.get_running_loop().remove_reader(self._end.fileno())

    def _adopt(self, connection: socket.socket) -> None:
        assert self._server is not None
        self._taken += 1
        task = asyncio.ensure_future(self._server.adopt(connection))
        task.add_done_callback(lambda _: self._report_connections())

    def _give_back(self, connection: socket.socket) -> bool:
        assert self._server is not None
        return not self._server.should_exit and hand_over(self._end, connection)

    def _open_connections(self) -> Collection[BoundedProtocol]:
        assert self._server is not None
        return cast(set[BoundedProtocol], self._server.server_state.connections)

    def _report_connections(self) -> None:
        tell(self._end, Connections(self._taken, len(self._open_connections())))

    def _start(self) -> None:
        assert self._server is not None
        if self._startup.start():
            tell(self._end, Ready(self._services.summary()))
            return
        error = self._startup.error
        if not isinstance(error, BowerbirdError):
            _LOG.error("worker %d could not start", self._number, exc_info=error)
            error = BowerbirdError(f"A worker could not start: {type(error).__name__}: {error}.", "See the log.")
        tell(self._end, Failed(error.code, error.what, error.remedy))
        self._server.should_exit = True
