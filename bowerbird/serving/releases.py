"""Which version of which model answers: loading, checking and swapping without a failed request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from bowerbird.errors import BowerbirdError, NotFoundError, UnavailableError
from bowerbird.plan.mistake import nearest
from bowerbird.serving.live_model import LiveModel, load_model, warm
from bowerbird.serving.state import LiveState
from bowerbird.serving.weights import missing_labels

_LOG = logging.getLogger("bowerbird.serving")


class Registry(Protocol):
    """What the server asks of the registry of versions."""

    def live_versions(self) -> dict[str, int]:
        """Return the live version of each model that has one."""
        ...

    def promote(self, name: str, version: int) -> None:
        """Make a version the live one of its model."""
        ...

    def folder_of(self, name: str, version: int) -> Path:
        """Return where a version's bundle lies; NotFoundError where none is published."""
        ...


class Releases:
    """The live versions. A swap replaces one reference: requests in flight finish with the version they began with.

    ``kept_plans`` are fingerprints of plans that stay in the live state whatever is released.
    """

    def __init__(
        self,
        registry: Registry,
        state: LiveState,
        kept_plans: Iterable[str] = (),
        on_change: Callable[[LiveModel], None] = lambda model: None,
    ) -> None:
        self._registry = registry
        self._state = state
        self._kept_plans = set(kept_plans)
        self._on_change = on_change
        self._lock = threading.Lock()
        self._live: dict[str, LiveModel] = {}
        self._refused: dict[tuple[str, int], str] = {}

    @property
    def live(self) -> dict[str, LiveModel]:
        """The versions that answer, by model name."""
        return self._live

    def for_labels(self, labels: Iterable[str], name: str = "") -> LiveModel:
        """Return the live model that predicts ``labels``: the named one, or the latest released.

        Raises NotFoundError for a name that is not live, UnavailableError where no model fits.
        """
        needed = set(labels)
        live = self._live
        if name:
            if name not in live:
                raise NotFoundError(f"No version of model {name!r} is live.", nearest(name, list(live)))
            candidates = [live[name]]
        else:
            candidates = list(reversed(live.values()))
        for model in candidates:
            if not missing_labels(needed, model.tasks):
                return model
        raise UnavailableError(
            f"No live model predicts {', '.join(sorted(needed))}.",
            "Train and publish one, then promote it: `bowerbird models promote NAME VERSION`.",
        )

    def refresh(self) -> list[BowerbirdError]:
        """Bring the live versions to what the registry says; return why versions were refused.

        A version that is refused once is not tried again until the registry names another one.
        """
        errors = []
        for name, version in self._registry.live_versions().items():
            current = self._live.get(name)
            if (current is not None and current.version == version) or (name, version) in self._refused:
                continue
            try:
                self._release(name, version)
            except BowerbirdError as error:
                self._refused[(name, version)] = str(error)
                _LOG.error("%s %d is refused, the former version goes on: %s", name, version, error)
                errors.append(error)
        return errors

    def promote(self, name: str, version: int) -> LiveModel:
        """Load and check a version, make it live here and in the registry; the former one goes on if it fails."""
        model = self._release(name, version, lambda: self._registry.promote(name, version))
        self._refused.pop((name, version), None)
        return model

    def _release(self, name: str, version: int, record: Callable[[], None] = lambda: None) -> LiveModel:
        with self._lock:
            try:
                model = load_model(self._registry.folder_of(name, version), name, version, self._state)
                warm(model)
                record()
                self._live = {**{key: each for key, each in self._live.items() if key != name}, name: model}
            finally:
                used = {each.plan_fingerprint for each in self._live.values()}
                self._state.keep_only(used | self._kept_plans)
        self._on_change(model)
        _LOG.info("%s %d answers", name, version)
        return model
