"""Running the server, in one process or in several, until it is told to stop."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, MissingExtraError
from bowerbird.server.observe.logs import log_as_json, log_requests
from bowerbird.server.processes.supervisor import Supervisor
from bowerbird.server.web.access import KeyStore
from bowerbird.server.web.http_server import HttpServer, address_of, bound_socket, check_exposed, uvicorn_config
from bowerbird.serving.collector import pass_over_imports

if TYPE_CHECKING:
    from bowerbird.server.inference.grpc_server import GrpcServer
    from bowerbird.server.services import Services

_MEMORY_FOLDER = Path("/dev/shm")
OnReady = Callable[[str, list[str]], None]


def run_server(
    workspace: Workspace,
    host: str,
    port: int,
    on_ready: OnReady = lambda address, summary: None,
    workers: int = 1,
    grpc_port: int = -1,
) -> None:
    """Serve a workspace until SIGTERM or SIGINT, then answer what is in flight and stop.

    ``port`` 0 takes a free one; ``on_ready`` is told the address and what is served. ``grpc_port`` is the Open
    Inference Protocol's over gRPC; -1 leaves it out. Raises InputError for an open address without API keys and for
    gRPC with several workers, UnavailableError for an address in use, MissingExtraError where gRPC is not installed,
    and what kept the parts from starting.
    """
    telemetry = workspace.settings.telemetry
    if telemetry.log == "json":
        log_as_json()
    if telemetry.access_log:
        log_requests()
    check_exposed(host, KeyStore(workspace.keys_file))
    with bound_socket(host, port) as listening:
        address = address_of(host, listening)

        def announce(summary: list[str]) -> None:
            on_ready(address, summary)

        if workers == 1:
            _run_alone(workspace, listening, announce, host, grpc_port)
            return
        if grpc_port >= 0:
            raise InputError(
                f"gRPC is served by one process, and there would be {workers}.",
                "Leave `workers` at 1, or serve gRPC from a server of its own.",
            )
        with _shared_memory(workspace, workers) as sharing, _run_folder() as folder:
            Supervisor(sharing, listening, workers, folder, announce).run()


def _run_alone(
    workspace: Workspace, listening: socket.socket, announce: Callable[[list[str]], None], host: str, grpc_port: int
) -> None:
    from bowerbird.server.build import build_application
    from bowerbird.server.services import Services
    from bowerbird.server.startup import WriterStartup

    pass_over_imports()
    services = Services(workspace)
    grpc_server = _grpc_server(services, host, grpc_port) if grpc_port >= 0 else None
    server = HttpServer(
        uvicorn_config(build_application(services), services.limits, workspace.settings.server.idle_seconds),
        [services.pool.serve],
        other=grpc_server,
    )
    startup = WriterStartup(services)

    def start() -> None:
        if not startup.start():
            server.should_exit = True
        elif grpc_server is None:
            announce(services.summary())
        elif grpc_address := grpc_server.address():
            announce([*services.summary(), f"Open Inference Protocol over gRPC at {grpc_address}."])

    starter = threading.Thread(target=start, name="start")
    starter.start()
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


@contextmanager
def _shared_memory(workspace: Workspace, workers: int) -> Iterator[Workspace]:
    """Give a workspace whose state its workers may read: in the setting's folder, else in one of this server's."""
    server = msgspec.structs.replace(workspace.settings.server, workers=workers)
    settings = msgspec.structs.replace(workspace.settings, server=server)
    if settings.state.shared:
        yield Workspace(workspace.folder, workspace.project, settings)
        return
    if not _MEMORY_FOLDER.is_dir():
        raise InputError("Several workers share state in a memory file system.", "Name one: `shared` under [state].")
    place = hashlib.sha256(str(workspace.data_folder.resolve()).encode()).hexdigest()[:8]
    folder = _MEMORY_FOLDER / f"bowerbird-{os.getuid()}-{place}"
    state = msgspec.structs.replace(settings.state, shared=str(folder))
    settings = msgspec.structs.replace(settings, state=state)
    try:
        yield Workspace(workspace.folder, workspace.project, settings)
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _run_folder() -> Iterator[Path]:
    """Give a folder for what workers tell each other, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bowerbird-", dir=_MEMORY_FOLDER if _MEMORY_FOLDER.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
