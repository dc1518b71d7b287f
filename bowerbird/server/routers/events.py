"""Events: what happened in the app, durable once answered."""

from __future__ import annotations

from typing import Any

import msgspec

from bowerbird.errors import InputError
from bowerbird.server import wire
from bowerbird.server.processes.writer_calls import EVENTS, outcomes_of, packed_events
from bowerbird.server.services import Services
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.routing import Route
from bowerbird.serving.writer import Outcome

_BODY = msgspec.json.Decoder(dict[str, Any])


class EventsRouter:
    """Handlers under ``/v1/events``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the events' operations."""
        return [
            Route(
                "POST", "/v1/events", self.post, "Report events: one object, or several in `events`.",
                "write", "events", wire.EventsRequest, wire.EventsAnswer,
            )
        ]  # fmt: skip

    async def post(self, request: Request) -> Response:
        """Answer ``POST /v1/events``: accepted events are on disk and seen by the next request."""
        self._services.status.check_ready()
        body = request.decode(_BODY)
        events, single = self._events(body)
        outcomes = await self._submit(events)
        answer = _answer(outcomes)
        self._services.metrics.count_events(answer.accepted, answer.duplicate, answer.rejected)
        if single and answer.rejected:
            raise InputError(f"The event was rejected: {outcomes[0].reason}", "Correct it and send it again.")
        return Response.json(answer)

    async def _submit(self, events: list[dict[str, Any]]) -> list[Outcome]:
        link = self._services.link
        if link is None:
            return await self._services.writing.writer.submit_here(events)
        return outcomes_of(await link.call(EVENTS, packed_events(events)))

    def _events(self, body: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        if "events" not in body:
            return [body], True
        events = body["events"]
        if set(body) != {"events"} or not isinstance(events, list):
            raise InputError("A batch is an object with `events` alone, a list.", 'Send {"events": [...]}.')
        if not all(isinstance(event, dict) for event in events):
            raise InputError("An event of the batch is not an object.", 'Send {"events": [{"type": …}, …]}.')
        limit = self._services.workspace.settings.server.event_batch_limit
        if len(events) > limit:
            raise InputError(
                f"The batch has {len(events):,} events; the limit is {limit:,}.",
                "Send several smaller batches.",
            )
        return events, False


def _answer(outcomes: list[Outcome]) -> wire.EventsAnswer:
    counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
    listed = [wire.EventOutcome(outcome.status, outcome.id, outcome.reason) for outcome in outcomes]
    return wire.EventsAnswer(counts["accepted"], counts["duplicate"], counts["rejected"], listed)
