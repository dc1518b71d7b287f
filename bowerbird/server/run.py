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
from functools import partial
from typing import Any, cast

import uvicorn

from bowerbird.declare.sizes import size_bytes
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, UnavailableError
from bowerbird.server.application import Application
from bowerbird.server.body_memory import BodyMemory
from bowerbird.server.protocol import BoundedProtocol, sweep
from bowerbird.server.routers.entities import EntitiesRouter
from bowerbird.server.routers.events import EventsRouter
from bowerbird.server.routers.features import FeaturesRouter
from bowerbird.server.routers.models import ModelsRouter
from bowerbird.server.routers.scenes import ScenesRouter
from bowerbird.server.routers.system import SystemRouter
from bowerbird.server.routing import Router
from bowerbird.server.services import Services
from bowerbird.server.startup import Startup

_LOG = logging.getLogger("bowerbird.server")
_DRAIN_SECONDS = 30
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
    )
    routes = [route for noun in nouns for route in noun.routes()] + system.routes()
    system.describe(routes)
    settings = services.workspace.settings.server
    memory = BodyMemory(size_bytes(settings.body_memory))
    return Application(Router(routes), services.keys, settings.body_limit, memory, services.metrics)


def run_server(
    workspace: Workspace,
    host: str,
    port: int,
    on_ready: Callable[[str, list[str]], None] = lambda address, summary: None,
) -> None:
    """Serve a workspace until SIGTERM or SIGINT, then answer what is in flight and stop.

    ``port`` 0 takes a free one; ``on_ready`` is told the address and what is served. Raises InputError for an
    open address without API keys, UnavailableError for an address in use, and what kept the parts from starting.
    """
    services = Services(workspace)
    _check_exposed(host, services)
    with _bound_socket(host, port) as listening:
        address = f"http://{host}:{listening.getsockname()[1]}"
        server = _Server(_config(services))
        startup = Startup(services)
        starter = _start_in_background(startup, server, lambda: on_ready(address, services.summary()))
        try:
            server.run([listening])
        finally:
            services.status.set("stopping")
            startup.cancel()
            starter.join()
            startup.stop()
    if startup.error is not None:
        raise startup.error


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
    protocol = partial(BoundedProtocol, services.limits)
    return uvicorn.Config(
        build_application(services),
        loop="uvloop",
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=services.workspace.settings.server.idle_seconds,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )


class _Server(uvicorn.Server):
    """Uvicorn, except that a signal ends it as it should: by draining, then returning to the caller."""

    async def main_loop(self) -> None:
        """Serve until told to stop, and close slow connections meanwhile."""
        sweeping = asyncio.create_task(sweep(lambda: self.server_state.connections))
        try:
            await super().main_loop()
        finally:
            sweeping.cancel()

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
