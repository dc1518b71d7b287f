"""What a model needs of feature state, whether this process writes it or reads another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.spec import Plan
from bowerbird.plan.state import Usage

Id = str | int


class StateView(Protocol):
    """One plan's view of the state; reads from many threads."""

    plan: Plan

    @property
    def lsn(self) -> int:
        """How many records a read sees now."""
        ...

    def read(self, time_us: int, user: Id | None, context: Mapping[str, Any], candidates: Keys) -> FeatureBlock:
        """Return features for a request: one row of request stage, one per candidate of the others."""
        ...

    def usage(self) -> Usage:
        """Return the size of the groups that the plan reads, with what others read there."""
        ...


class StateSource(Protocol):
    """The state of every plan in use."""

    @property
    def lsn(self) -> int:
        """How many records the log holds, as far as is known here."""
        ...

    def require(self, plan: Plan) -> StateView:
        """Return a plan's state; raises UnavailableError where it cannot be had now."""
        ...

    def keep_only(self, fingerprints: set[str]) -> None:
        """Let go of the plans that no version uses."""
        ...
