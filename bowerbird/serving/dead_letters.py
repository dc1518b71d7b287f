"""Rejected live events, appended where ``bowerbird`` lists dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bowerbird.durable import make_folder, storage_errors
from bowerbird.log.dead_letters import DeadLetter

SOURCE = "live"
_FILE_BYTES = 64 << 20


class LiveDeadLetters:
    """Appends to one file a day, up to 64 MiB: a client gone wrong must not fill the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / SOURCE
        self._count = 0

    def add(self, raw: Mapping[str, Any], reason: str, detail: str, time_us: int) -> None:
        """Append one rejected event; raises StorageError."""
        self._count += 1
        letter = DeadLetter(reason, detail, SOURCE, "POST /v1/events", self._count, dict(raw))
        file = self._folder / f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}.jsonl"
        make_folder(self._folder)
        with storage_errors(file), file.open("ab") as stream:
            if stream.tell() < _FILE_BYTES:
                stream.write(msgspec.json.encode(letter) + b"\n")
