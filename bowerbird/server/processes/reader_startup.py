"""Starting a process that answers from the state that another one writes."""

from __future__ import annotations

import threading
from pathlib import Path

from bowerbird.errors import UnavailableError
from bowerbird.recall.items import ItemCatalog
from bowerbird.recall.plan import recall_plan
from bowerbird.server.processes.relay import RelayClient
from bowerbird.server.processes.writer_calls import ITEMS
from bowerbird.server.services import Services
from bowerbird.server.startup import Startup
from bowerbird.serving.log_access import WrittenRecords, read_items
from bowerbird.serving.shared_folder import shared_place
from bowerbird.serving.shared_source import SharedSource

_CONNECT_SECONDS = 60.0


class ReaderStartup(Startup):
    """Attaches to the writer's state, follows its items, sends it what only it can do."""

    def __init__(self, services: Services, relay: Path) -> None:
        super().__init__(services)
        self._items = ItemCatalog()
        self._started = False
        self.link = RelayClient(relay, self._connected, {ITEMS: self._items.add})
        services.link = self.link

    def _start(self) -> None:
        services, workspace = self._services, self._services.workspace
        if not self.link.wait_connected(_CONNECT_SECONDS):
            raise UnavailableError(f"The writer was not reached within {_CONNECT_SECONDS:.0f} s.", "See its log.")
        self._read_items()
        services.items = self._items
        services.state = SharedSource(*shared_place(workspace))
        recall = recall_plan(workspace.project)
        self._open_registry(recall)
        self._load_models()
        self._make_scenes(recall)
        self._started = True
        self._begin()

    def _connected(self) -> None:
        """After the writer was started anew, what it was told last may have been missed."""
        if self._started:
            threading.Thread(target=self._read_items, name="items", daemon=True).start()

    def _read_items(self) -> None:
        workspace = self._services.workspace
        read_items(workspace, WrittenRecords(workspace.wal_folder), self._items)
