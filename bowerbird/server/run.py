"""Running the server: a socket, uvicorn on uvloop and httptools, a start in the background, a drain at the end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError, InputError, MissingExtraError, UnavailableError
from bowerbird.server.application import Application
from bowerbird.server.routers.entities import EntitiesRouter
from bowerbird.server.routers.events import EventsRouter
from bowerbird.server.routers.features import FeaturesRouter
from bowerbird.server.routers.inference import InferenceRouter
from bowerbird.server.routers.models import ModelsRouter
from bowerbird.server.routers.scenes import ScenesRouter
from bowerbird.server.routers.system import SystemRouter
from bowerbird.server.routing import Router
from bowerbird.server.services import Services
from bowerbird.server.startup import Startup

if TYPE_CHECKING:
    from bowerbird.server.inference.grpc_server import GrpcServer

_LOG = logging.getLogger("bowerbird.server")
_DRAIN_SECONDS = 30
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048


def build_application(services: Services) -> Application:
    """Return the ASGI application of some services."""
    system = SystemRouter(services)
    nouns = (
        ScenesRouter(services),
        EventsRouter(services),
        EntitiesRouter(services),
        FeaturesRouter(services),
        ModelsRouter(services),
        InferenceRouter(services),
    )
    routes = [route for noun in nouns for route in noun.routes()] + system.routes()
    system.describe(routes)
    limit = services.workspace.settings.server.body_limit
    return Application(Router(routes), services.keys, limit, services.metrics)


def run_server(
    workspace: Workspace,
    host: str,
    port: int,
    on_ready: Callable[[str, list[str]], None] = lambda address, summary: None,
    grpc_port: int = -1,
) -> None:
    """Serve a workspace until SIGTERM or SIGINT, then answer what is in flight and stop.

    ``port`` 0 takes a free one; ``on_ready`` is told the address and what is served. ``grpc_port`` is the Open
    Inference Protocol's over gRPC; -1 leaves it out. Raises InputError for an open address without API keys,
    UnavailableError for an address in use, MissingExtraError where gRPC is not installed, and what kept the parts from
    starting.
    """
    services = Services(workspace)
    _check_exposed(host, services)
    with _bound_socket(host, port) as listening:
        address = f"http://{host}:{listening.getsockname()[1]}"
        grpc_server = _grpc_server(services, host, grpc_port) if grpc_port >= 0 else None
        server = _Server(_config(services), grpc_server)
        startup = Startup(services)

        def ready() -> None:
            if grpc_server is None:
                on_ready(address, services.summary())
            elif grpc_address := grpc_server.address():
                on_ready(address, [*services.summary(), f"Open Inference Protocol over gRPC at {grpc_address}."])

        starter = _start_in_background(startup, server, ready)
        try:
            server.run([listening])
        finally:
            services.status.set("stopping")
            startup.cancel()
            starter.join()
            startup.stop()
    if server.error is not None:
        raise server.error
    if startup.error is not None:
        raise startup.error


def _grpc_server(services: Services, host: str, port: int) -> GrpcServer:
    try:
        from bowerbird.server.inference.grpc_server import GrpcServer
    except ImportError as error:
        raise MissingExtraError(
            f"gRPC cannot be served: {error}.", "Install it: pip install 'bowerbird[grpc]'."
        ) from error
    return GrpcServer(services, host, port)


def _start_in_background(startup: Startup, server: uvicorn.Server, on_ready: Callable[[], None]) -> threading.Thread:
    def start() -> None:
        if startup.start():
            on_ready()
        else:
            server.should_exit = True

    thread = threading.Thread(target=start, name="start")
    thread.start()
    return thread


def _check_exposed(host: str, services: Services) -> None:
    if services.keys.records():
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
def _bound_socket(host: str, port: int) -> Iterator[socket.socket]:
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


def _config(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        build_application(services),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )


class _Server(uvicorn.Server):
    """Uvicorn, with gRPC beside it, that a signal ends as it should: by draining, then returning to the caller.

    ``error`` is why gRPC did not start.
    """

    def __init__(self, config: uvicorn.Config, grpc_server: GrpcServer | None) -> None:
        super().__init__(config)
        self._grpc_server = grpc_server
        self.error: BowerbirdError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self._grpc_server is None:
            return
        try:
            await self._grpc_server.start()
        except BowerbirdError as error:
            self.error, self.should_exit = error, True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, both at once."""
        draining = [super().shutdown(sockets)]
        if self._grpc_server is not None:
            draining.append(self._grpc_server.stop(_DRAIN_SECONDS))
        await asyncio.gather(*draining)

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
