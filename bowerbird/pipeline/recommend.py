"""One scene's pipeline: recall, drop what was seen, rank by the model, diversify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.declare.scenes import Scene
from bowerbird.pipeline.candidates import Candidates, merge_channels
from bowerbird.pipeline.channels import Channel, PopularChannel
from bowerbird.pipeline.diversity import pick_diverse
from bowerbird.pipeline.popularity import Popular
from bowerbird.pipeline.trace import Trace
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.recall.items import Id, ItemCatalog, item_key
from bowerbird.recall.plan import SceneFeatures
from bowerbird.recall.reader import RecallReader
from bowerbird.serving.clock import Clock
from bowerbird.serving.given import Given
from bowerbird.serving.ranker import Question, SceneRanker, Scored


@dataclass(frozen=True)
class Wish:
    """What a recommendation is asked for: ``count`` items for a user, none of ``exclude``."""

    user: Id
    context: Mapping[str, Any]
    given: Given
    count: int
    exclude: Sequence[Id]
    model: str = ""


@dataclass(frozen=True)
class Recommendation:
    """Scored candidates, the positions shown (best first) and the channels by position."""

    scored: Scored
    shown: list[int]
    channels: list[list[str]]


class ScenePipeline:
    """Recommends items of one scene."""

    def __init__(
        self,
        scene: Scene,
        features: SceneFeatures,
        channels: dict[str, Channel],
        reader: RecallReader,
        items: ItemCatalog,
        ranker: SceneRanker,
        clock: Clock,
    ) -> None:
        self.scene = scene
        self._features = features
        self._channels = channels
        self._reader = reader
        self._items = items
        self._ranker = ranker
        self._clock = clock

    def recommend(self, wish: Wish, trace: Trace | None = None, keep: int = 0) -> Recommendation:
        """Return a slate; fewer items than wished where recall, filters or diversity leave fewer.

        With ``keep``, only so many candidates are ranked, those that were recalled best.
        """
        now = self._clock.now()
        user = self._reader.read(now, wish.user, np.empty(0, np.uint64))
        candidates = self._filter(self._recall(now, user, self._channels, trace), user, wish, trace)
        if keep:
            candidates = candidates.first(keep)
        identifiers = [self._id(key) for key in candidates.keys.tolist()]
        question = Question(wish.user, wish.context, identifiers, wish.given, {})
        scored = self._ranker.rank(question, wish.model)
        order = np.argsort(-scored.ranking, kind="stable").tolist()
        shown, skipped = self._pick(now, candidates.keys, order, wish.count)
        if trace is not None:
            trace.ranked(candidates, scored, order)
            trace.moved(scored, order, shown, skipped)
        return Recommendation(scored, shown, candidates.channels)

    def recommend_popular(self, wish: Wish, trace: Trace | None = None) -> Popular:
        """Return a slate of the items that are counted most, without a model."""
        now = self._clock.now()
        user = self._reader.read(now, wish.user, np.empty(0, np.uint64))
        candidates = self._filter(self._recall(now, user, self._popular_channel(), trace), user, wish, trace)
        counts, lsn = self._counts(now, candidates.keys)
        shown, _ = self._pick(now, candidates.keys, list(range(len(candidates))), wish.count)
        identifiers = [self._id(key) for key in candidates.keys.tolist()]
        return Popular(identifiers, counts, lsn, now, shown, candidates.channels)

    def score_popular(self, candidates: Sequence[Id]) -> Popular:
        """Return how often given candidates are counted."""
        now = self._clock.now()
        counts, lsn = self._counts(now, np.array([item_key(item) for item in candidates], np.uint64))
        return Popular(candidates, counts, lsn, now)

    def _popular_channel(self) -> dict[str, Channel]:
        return {name: each for name, each in self._channels.items() if isinstance(each, PopularChannel)}

    def _counts(self, now: int, keys: Keys) -> tuple[npt.NDArray[np.float32], int]:
        block = self._reader.read(now, None, keys)
        return block.numbers[self._features.popular], block.lsn

    def _recall(
        self, now: int, user: FeatureBlock, channels: Mapping[str, Channel], trace: Trace | None
    ) -> Candidates:
        recalled = {name: channel.recall(now, user) for name, channel in channels.items()}
        if trace is not None:
            trace.recalled(recalled)
        return merge_channels(recalled)

    def _filter(self, candidates: Candidates, user: FeatureBlock, wish: Wish, trace: Trace | None) -> Candidates:
        drops = {"excluded": np.array([item_key(item) for item in wish.exclude], np.uint64)}
        if self._features.seen:
            drops["seen"] = user.sequences[self._features.seen].fields[self.scene.item.name].astype(np.uint64)
        known = np.fromiter(
            (self._items.id_of(key) is not None for key in candidates.keys.tolist()), bool, len(candidates)
        )
        candidates = candidates.keep(known)
        for reason, keys in drops.items():
            hit = np.isin(candidates.keys, keys)
            if trace is not None:
                trace.dropped([self._id(key) for key in candidates.keys[hit].tolist()], reason)
            candidates = candidates.keep(~hit)
        return candidates

    def _pick(self, now: int, keys: Keys, order: list[int], count: int) -> tuple[list[int], list[int]]:
        if self.scene.diversity is None:
            return order[:count], []
        attributes = self._reader.read(now, None, keys).categories[self._features.diversity]
        return pick_diverse(order, attributes.tolist(), self.scene.diversity.limit, count)

    def _id(self, key: int) -> Id:
        identifier = self._items.id_of(key)
        assert identifier is not None
        return identifier
