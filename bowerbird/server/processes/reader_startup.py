"""Starting a process that answers from the state that another one writes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from bowerbird.errors import BowerbirdError, UnavailableError
from bowerbird.recall.plan import recall_plan
from bowerbird.server.processes.relay import RelayClient
from bowerbird.server.processes.writer_calls import ITEMS
from bowerbird.server.promotion import REFRESH, refresh
from bowerbird.server.services import Services
from bowerbird.server.startup import Startup
from bowerbird.serving.shared_folder import shared_place
from bowerbird.serving.shared_source import SharedSource

_LOG = logging.getLogger("bowerbird.server")
_TELL_SECONDS = 60.0


class ReaderStartup(Startup):
    """Attaches to the writer's state, is told its items, sends it what only it can do."""

    def __init__(self, services: Services, relay: Path) -> None:
        super().__init__(services)
        self._asking: asyncio.Task[None] | None = None
        self.link = RelayClient(
            relay, self._connected, {ITEMS: services.items.add}, {REFRESH: lambda _: refresh(services)}
        )
        services.link = self.link

    def _start(self) -> None:
        services, workspace = self._services, self._services.workspace
        if not services.items_known.wait(_TELL_SECONDS):
            raise UnavailableError(f"The writer told no items within {_TELL_SECONDS:.0f} s.", "See its log.")
        services.state = SharedSource(*shared_place(workspace))
        recall = recall_plan(workspace.project)
        self._open_registry(recall)
        self._load_models()
        self._make_scenes(recall)
        self._begin()

    def _connected(self) -> None:
        """Ask for all items: what the writer told before this connection was missed."""
        self._asking = asyncio.get_running_loop().create_task(self._ask_items())

    async def _ask_items(self) -> None:
        try:
            identifiers = await self.link.call(ITEMS, None)
        except (BowerbirdError, TimeoutError) as error:
            _LOG.warning("the writer did not tell its items: %s", error)
            return
        await asyncio.to_thread(self._services.items.add, identifiers)
        self._services.items_known.set()
