"""A scene's recall channels, ready to be asked."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bowerbird.declare.scenes import Popular, Scene
from bowerbird.plan.block import FeatureBlock
from bowerbird.recall.items import ItemCatalog
from bowerbird.recall.neighbours import NeighbourIndex
from bowerbird.recall.plan import SceneFeatures
from bowerbird.recall.popular import PopularItems, Ranked
from bowerbird.recall.reader import RecallReader

_HISTORY_DECAY = 0.9
"""How much an event of a user's history weighs of the one after it."""


class Channel(Protocol):
    """One recall source of a scene."""

    def recall(self, time_us: int, user: FeatureBlock) -> Ranked:
        """Return items, best first, for a user whose recall features were read."""
        ...


class PopularChannel:
    """Popular items, the same for every user."""

    def __init__(self, popular: PopularItems) -> None:
        self._popular = popular

    def recall(self, time_us: int, user: FeatureBlock) -> Ranked:
        """Return the popular items as of now."""
        return self._popular.items(time_us)


class CoVisitationChannel:
    """Neighbours of the user's latest items."""

    def __init__(self, index: NeighbourIndex, feature: str, item_field: str, count: int) -> None:
        self._index = index
        self._feature = feature
        self._field = item_field
        self._count = count

    def recall(self, time_us: int, user: FeatureBlock) -> Ranked:
        """Return the history's neighbours; nothing for a user without history."""
        history = user.sequences[self._feature].fields[self._field].astype(np.uint64, copy=False)
        keys, scores = self._index.merge(history, _HISTORY_DECAY, self._count)
        return Ranked(keys, scores)


def scene_channels(
    scene: Scene,
    features: SceneFeatures,
    reader: RecallReader,
    items: ItemCatalog,
    indexes: dict[str, NeighbourIndex],
) -> dict[str, Channel]:
    """Return a scene's channels by name; ``indexes`` holds neighbours by plan feature, where built."""
    channels: dict[str, Channel] = {}
    for position, (declared, feature) in enumerate(zip(scene.recall, features.channels, strict=True)):
        if isinstance(declared, Popular):
            popular = PopularItems(reader, items, feature, declared.count)
            channels[f"popular_{position}"] = PopularChannel(popular)
        else:
            index = indexes.get(feature, NeighbourIndex.empty())
            channels[f"co_visitation_{position}"] = CoVisitationChannel(index, feature, scene.item.name, declared.count)
    return channels
