"""What recall needs of the live state: features of a user and of items, as of now."""

from __future__ import annotations

from typing import Protocol

from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.recall.items import Id


class RecallReader(Protocol):
    """Reads the recall plan's features."""

    def read(self, time_us: int, user: Id | None, items: Keys) -> FeatureBlock:
        """Return request features (one row) of ``user`` and item features of ``items``."""
        ...
