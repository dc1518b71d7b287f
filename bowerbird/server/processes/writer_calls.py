"""What the other processes of a server ask of the one that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bowerbird.server.processes.relay import Handler
from bowerbird.server.promotion import PROMOTE, promote
from bowerbird.server.services import Services
from bowerbird.serving.submission import Outcome

_EVENTS = msgspec.json.Decoder(list[dict[str, Any]])
EVENTS, STATE, ITEMS = "events", "state", "items"
_LOOK_SECONDS = 0.05


def writer_calls(services: Services) -> Mapping[str, Handler]:
    """Return the writer's answers by kind of call."""

    async def events(payload: Any) -> Any:
        services.status.check_ready()
        outcomes = await services.writing.writer.submit_here(_EVENTS.decode(payload))
        return [(each.status, each.id, each.reason) for each in outcomes]

    async def make_live(payload: Any) -> Any:
        services.status.check_ready()
        await promote(services, *payload)

    async def state(payload: Any) -> Any:
        services.status.check_ready()
        return msgspec.to_builtins(services.state_report())

    async def items(payload: Any) -> Any:
        while not services.items_known.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
        return services.items.ids()

    return {EVENTS: events, PROMOTE: make_live, STATE: state, ITEMS: items}


def packed_events(events: Sequence[Mapping[str, Any]]) -> bytes:
    """Return events as the payload of a call: JSON, which holds integers of any size."""
    return msgspec.json.encode(events)


def outcomes_of(answer: Any) -> list[Outcome]:
    """Return the outcomes in the answer to a call with events."""
    return [Outcome(status, identifier, reason) for status, identifier, reason in answer]
