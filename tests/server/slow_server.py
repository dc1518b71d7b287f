"""A real server in front of a scene that takes a stated time, in a thread: overload without a model."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bowerbird.declare.workspace import TelemetrySettings
from bowerbird.server.application import Application
from bowerbird.server.load.admission import Work
from bowerbird.server.load.deadlines import deadline_of
from bowerbird.server.load.pool import ScoringPool, make_pool
from bowerbird.server.load.service_time import ServiceTime
from bowerbird.server.observe.metrics import Metrics
from bowerbird.server.observe.observer import Observer
from bowerbird.server.web.access import KeyStore
from bowerbird.server.web.body_memory import BodyMemory
from bowerbird.server.web.connection_limits import ConnectionLimits
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.http_server import HttpServer, bound_socket, uvicorn_config
from bowerbird.server.web.routing import Route, Router

PATH = "/slow"
DEADLINE_SECONDS = 0.2
BODY_BYTES, MEMORY_BYTES = 1 << 20, 1 << 21


class SlowScene:
    """Answers ``POST /slow`` after ``seconds`` in a pool, with the body's length; ``taken`` counts what it did.

    ``memory`` is what the server's bodies take.
    """

    server: HttpServer
    loop: asyncio.AbstractEventLoop
    limits: ConnectionLimits

    def __init__(self, pool: ScoringPool, seconds: float) -> None:
        self.memory = BodyMemory(MEMORY_BYTES)
        self._pool = pool
        self._service = ServiceTime()
        self._service.observe(1.0, seconds)
        self.serving = threading.Event()
        self.seconds = seconds
        self.taken = 0

    async def serve(self) -> None:
        """Note the loop that the server runs on."""
        self.loop = asyncio.get_running_loop()
        self.serving.set()

    def give_all_to(self, other: SlowScene) -> None:
        """Let another server have all connections as soon as they can go."""

        def give_all() -> None:
            for connection in self.server.server_state.connections:
                connection.give_away(other.take)  # type: ignore[union-attr]

        self.loop.call_soon_threadsafe(give_all)

    def take(self, connection: socket.socket) -> bool:
        """Take a connection from another server."""
        own = connection.dup()
        own.setblocking(False)
        asyncio.run_coroutine_threadsafe(self.server.adopt(own), self.loop)
        return True

    def route(self) -> Route:
        return Route("POST", PATH, self._answer, "Wait.", None, "slow", admit=self._admit)

    def _admit(self, request: Request) -> None:
        deadline = deadline_of(request, DEADLINE_SECONDS)
        request.work = Work(self._service, request.body_length, request.arrived, deadline)
        self._pool.check(request.work)

    def _answer(self, request: Request) -> Awaitable[Response]:
        assert request.work is not None
        return self._pool.run(request.work, lambda waited: self._compute(request.body), request.on_disconnect)

    def _compute(self, body: bytes) -> Response:
        self.taken += 1
        time.sleep(self.seconds)
        return Response.json(len(body))


@contextmanager
def slow_server(folder: Path, threads: int, seconds: float, idle_seconds: int = 5) -> Iterator[tuple[int, SlowScene]]:
    """Serve a slow scene on so many threads (0: the event loop's own); yields the port and the scene."""
    pool = make_pool(threads, 1000, lambda waited: None)
    scene = SlowScene(pool, seconds)
    observer = Observer(Metrics(), TelemetrySettings(), "slow")
    application = Application(
        Router([scene.route()]), KeyStore(folder / "keys.json"), BODY_BYTES, scene.memory, observer
    )
    scene.limits = limits = ConnectionLimits(1000, 5.0, 5.0, 5.0)
    scene.server = server = HttpServer(uvicorn_config(application, limits, idle_seconds), [pool.serve, scene.serve])
    with bound_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        scene.serving.wait()
        try:
            yield listening.getsockname()[1], scene
        finally:
            server.should_exit = True
            thread.join()
            pool.close()
