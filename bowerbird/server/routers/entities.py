"""Entities: what the platform knows of a user or an item now."""

from __future__ import annotations

from typing import Any

import numpy as np

from bowerbird.errors import NotFoundError
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import MISSING_KEY, Feature
from bowerbird.server import wire
from bowerbird.server.services import Services
from bowerbird.server.times import iso_time
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.routing import Route
from bowerbird.serving.live_model import LiveModel


class EntitiesRouter:
    """Handlers under ``/v1/entities``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the entities' operations."""
        return [
            Route(
                "GET", "/v1/entities/{entity}/{id}", self.show, "A user's or an item's features now.",
                "read", "entities", None, wire.EntityAnswer, (("model", "a live model's name"),),
            )
        ]  # fmt: skip

    async def show(self, request: Request) -> Response:
        """Answer ``GET /v1/entities/{entity}/{id}``."""
        self._services.status.check_ready()
        work = self._services.work(request, "entities")
        return await self._services.pool.run(work, lambda waited: self._show(request), request.on_disconnect)

    def _show(self, request: Request) -> Response:
        form = self._services.form
        entity, text = request.parameters["entity"], request.parameters["id"]
        model = self._services.releases.for_labels((), request.query("model"))
        now = self._services.clock.now()
        if entity == form.user.name:
            identifier = form.user_id(text)
            block = model.state.read(now, identifier, {}, np.empty(0, np.uint64))
            features = [each for each in model.plan.features if each.stage == "request"]
        elif entity == form.item.name:
            identifier = form.item_id(text)
            block = model.state.read(now, None, {}, form.item_keys([identifier]))
            features = [each for each in model.plan.features if each.stage == "item"]
        else:
            known = [form.user.name, form.item.name]
            raise NotFoundError(f"Entity {entity!r} has no features of its own.", nearest(entity, known))
        shown = {each.name: self._value(each, block, model) for each in features}
        return Response.json(wire.EntityAnswer(entity, identifier, block.lsn, iso_time(now), shown))

    def _value(self, feature: Feature, block: FeatureBlock, model: LiveModel) -> Any:
        if feature.kind == "number":
            return float(block.numbers[feature.name][0])
        if feature.kind == "category":
            return self._category(int(block.categories[feature.name][0]), feature.vocabulary)
        if feature.kind == "vector":
            vector = block.vectors[feature.name][0]
            return None if np.isnan(vector).any() else vector.tolist()
        return self._sequence(feature, block.sequences[feature.name])

    def _category(self, key: int, vocabulary: str) -> Any:
        """Return an item's id, or the key's 16 digits: other values are kept as keys alone."""
        if key == MISSING_KEY:
            return None
        if vocabulary == self._services.form.item.name:
            identifier = self._services.items.id_of(key)
            if identifier is not None:
                return identifier
        return f"key:{key:016x}"

    def _sequence(self, feature: Feature, ragged: Ragged) -> list[dict[str, Any]]:
        columns: dict[str, list[Any]] = {}
        for field in feature.fields:
            values = ragged.fields[field.name].tolist()
            if field.is_category:
                values = [self._category(key, field.vocabulary) for key in values]
            columns[field.name] = values
        columns["age"] = ragged.age.tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
