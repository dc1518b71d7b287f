"""One loaded version: its bundle's scorer beside the live state of its plan."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.bundle import Bundle, read_bundle
from bowerbird.bundles.choose_way import Served, WaySetting, load_served
from bowerbird.bundles.live_tables import network_of, tables_of, with_tables
from bowerbird.bundles.manifest import Manifest
from bowerbird.bundles.registry import VersionRecord
from bowerbird.bundles.scorer import Scorer
from bowerbird.errors import CorruptionError
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Plan
from bowerbird.serving.delta_follower import DeltaFollower
from bowerbird.serving.given import GivenFeatures
from bowerbird.serving.recent_items import RecentItems
from bowerbird.serving.state_view import StateSource, StateView

_TOGETHER = 200
"""Candidates that are scored at a time before a version answers."""


class LiveModel:
    """A version that can answer: scores candidates from features of its own plan's state."""

    def __init__(self, bundle: Bundle, served: Served, state: StateView, delta_memory: int = 0) -> None:
        self.manifest: Manifest = bundle.manifest
        self.digest = bundle.digest
        self.plan: Plan = bundle.plan
        self.plan_fingerprint = bundle.plan.fingerprint
        self.state = state
        self.given = GivenFeatures(bundle.plan)
        self.choice = served.choice
        self.host = served.choice.host.fingerprint
        self.folder = bundle.folder
        self.deltas = DeltaFollower(bundle, delta_memory)
        self.recent = RecentItems()
        self._scorer = served.scorer

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """The version's number."""
        return self.manifest.version

    @property
    def way(self) -> str:
        """The way that it is served by."""
        return self.choice.way

    @property
    def delta(self) -> int:
        """The number of the last embedding delta that it holds, 0 for none."""
        tables = tables_of(self._scorer.model)
        return 0 if tables is None else tables.sequence

    @property
    def changed_bytes(self) -> int:
        """The memory that rows take that deltas changed."""
        tables = tables_of(self._scorer.model)
        return 0 if tables is None else tables.changed_bytes

    @property
    def items_made(self) -> int:
        """How many items' values were made because a request asked for them; 0 where none are kept."""
        network = network_of(self._scorer.model)
        return 0 if network is None else network.items.misses

    def followed(self) -> LiveModel:
        """Return the version with the deltas that came since, or itself; requests that it answers go on with it."""
        tables = tables_of(self._scorer.model)
        if tables is None:
            return self
        changed = self.deltas.followed(tables)
        if changed is tables:
            return self
        other = copy.copy(self)
        other._scorer = Scorer(with_tables(self._scorer.model, changed), self._scorer.calibrations)
        return other

    @property
    def tasks(self) -> list[str]:
        """The labels that the model predicts."""
        return [task.name for task in self.manifest.tasks]

    def score(self, features: FeatureBlock, candidates: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return calibrated probabilities by task, float32 [candidates]."""
        if candidates == 0:
            return {task: np.empty(0, np.float32) for task in self.tasks}
        scores = self._scorer.score(features)
        return {task: _for_each(values.astype(np.float32), candidates) for task, values in scores.items()}


def _for_each(scores: npt.NDArray[np.float32], candidates: int) -> npt.NDArray[np.float32]:
    """Return a score for each candidate; one stands for all."""
    return scores if len(scores) == candidates else np.broadcast_to(scores, candidates)


def load_model(
    folder: Path,
    version: VersionRecord,
    live: StateSource,
    ways: WaySetting,
    delta_memory: int,
    verify_tables: bool = False,
) -> LiveModel:
    """Return a version that passed its hashes and golden requests, with the deltas that there are.

    Without ``verify_tables`` tables are checked by length and header alone.

    Raises CorruptionError where a byte or a golden answer differs, NotFoundError without the bundle, InputError where
    a way is set that the version may not be served by.
    """
    bundle = read_bundle(folder, verify_tables)
    if bundle.digest != version.digest:
        raise CorruptionError(
            f"{folder} is not the bundle that was published as {version.name} {version.version}.",
            "Restore the folder, or publish the version again.",
        )
    served = load_served(bundle, ways)
    return LiveModel(bundle, served, live.require(bundle.plan), delta_memory).followed()


def warm(model: LiveModel, rounds: int = 3) -> None:
    """Score made-up candidates a few times, so that the first real request does not pay for it."""
    keys = np.frombuffer(hashlib.shake_128(b"warm").digest(8 * _TOGETHER), np.uint64)
    for _ in range(rounds):
        model.score(model.state.read(0, None, {}, keys), len(keys))


def take_over(model: LiveModel, former: LiveModel) -> None:
    """Score what was asked of a former version last, so that requests find the values of their items.

    A few items at a time: what answers meanwhile waits for none of them long.
    """
    time, keys = former.recent.time, former.recent.keys()
    for start in range(0, len(keys), _TOGETHER):
        some = keys[start : start + _TOGETHER]
        model.score(model.state.read(time, None, {}, some), len(some))
    model.recent = former.recent
