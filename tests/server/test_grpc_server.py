"""gRPC where it cannot be: not installed, its port taken."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import MissingExtraError, UnavailableError
from bowerbird.server.inference.grpc_server import GrpcServer
from bowerbird.server.run import run_server
from bowerbird.server.services import Services
from tests.server.process import ROOT

PROJECT = ROOT / "examples" / "movielens"


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "bowerbird.server.inference.grpc_server")
    with pytest.raises(MissingExtraError, match=r"bowerbird\[grpc\]"):
        run_server(load_workspace(PROJECT), "127.0.0.1", 0, grpc_port=0)


def test_a_taken_port_is_refused() -> None:
    async def run() -> None:
        first, second = GrpcServer(services, "127.0.0.1", 0), None
        await first.start()
        port = int(first.address().rsplit(":", 1)[1])
        try:
            second = GrpcServer(services, "127.0.0.1", port)
            with pytest.raises(UnavailableError, match="choose --grpc-port"):
                await second.start()
            assert second.address() == ""
        finally:
            await first.stop(0.0)

    services = Services(load_workspace(PROJECT))
    try:
        asyncio.run(run())
    finally:
        services.pool.close()
