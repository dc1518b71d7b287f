"""Erasing a user from the write-ahead log: the records' places, and so all LSNs, stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from bowerbird.declare.project import Project
from bowerbird.durable import write_atomically
from bowerbird.log.erasure.imported import MENTIONS
from bowerbird.log.erasure.personal import Id, personal_columns
from bowerbird.log.live.segment import Segment, segments
from bowerbird.log.live.write_ahead import WriteAheadLog
from bowerbird.log.schema import AVAILABLE, ID, TIME

FORGOTTEN_TYPE = "_forgotten"
"""The type of a live record of which only the place is left; no plan has it."""


def forget_live(log: WriteAheadLog, project: Project, identifier: Id) -> Counter[str]:
    """Rewrite the segments that name a user, each at once, and return how many records of each type went.

    ``log`` is open, so that it is whole and nobody else writes; it must not be appended to after this.
    """
    removed: Counter[str] = Counter()
    change = _change(project, identifier, removed)
    for path in segments(log.folder):
        content = Segment(path).rewritten(change)
        if content is not None:
            write_atomically(path, content)
    return removed


def _change(project: Project, identifier: Id, removed: Counter[str]) -> Callable[[bytes], bytes | None]:
    personal = {record.name: personal_columns(record, project.user) for record in project.record_types}

    def change(data: bytes) -> bytes | None:
        payload: dict[str, Any] = msgspec.msgpack.decode(data)
        named = personal.get(payload["_type"])
        if named is None:
            return None
        if named.owns(payload, identifier):
            removed[payload["_type"]] += 1
            place = {"_type": FORGOTTEN_TYPE, ID: "", TIME: payload[TIME], AVAILABLE: payload[AVAILABLE]}
            return msgspec.msgpack.encode(place)
        mentions = [name for name in named.mentions if payload.get(name) == identifier]
        for name in mentions:
            del payload[name]
            removed[MENTIONS] += 1
        return msgspec.msgpack.encode(payload) if mentions else None

    return change
