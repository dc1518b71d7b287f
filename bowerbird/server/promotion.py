"""Promotion in every process of a server: once it is answered, each of them answers with the version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bowerbird.server.services import Services

PROMOTE, REFRESH = "promote", "refresh"


async def promote(services: Services, name: str, version: int) -> None:
    """Make a version the one that answers: the writer loads and checks it first, then the others load it.

    Raises what the writer finds wrong with it; the former one goes on. What another process finds stands in its log.
    """
    if services.link is not None:
        await services.link.call(PROMOTE, (name, version))
        return
    await _in_background(services, services.releases.promote, name, version)
    if services.relay is not None:
        await services.relay.ask(REFRESH, None)


async def refresh(services: Services) -> None:
    """Bring this process to what the registry says; one that starts does so by itself."""
    if services.status.phase == "ready":
        await _in_background(services, services.releases.refresh)


async def _in_background(services: Services, call: Callable[..., Any], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(services.background, call, *arguments)
