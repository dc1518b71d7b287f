"""Which version of which model answers: loading, checking and swapping without a failed request."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable

import msgspec

from bowerbird.bundles.bundle import PLAN
from bowerbird.bundles.choose_way import WaySetting
from bowerbird.bundles.registry import Registry, VersionRecord
from bowerbird.bundles.table_check import check_slowly
from bowerbird.errors import BowerbirdError, CorruptionError, NotFoundError, UnavailableError
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import Plan
from bowerbird.serving.collector import no_collection
from bowerbird.serving.live_model import LiveModel, load_model, take_over, warm
from bowerbird.serving.state_view import StateSource
from bowerbird.serving.weights import missing_labels

_LOG = logging.getLogger("bowerbird.serving")


class Releases:
    """The live versions. A swap replaces one reference: requests in flight finish with the version they began with.

    ``delta_memory`` are the most bytes that rows may take that deltas changed, of each version; ``kept_plans`` are
    fingerprints of plans that stay in the live state whatever is released.
    """

    def __init__(
        self,
        registry: Registry,
        state: StateSource,
        ways: WaySetting,
        delta_memory: int,
        kept_plans: Iterable[str] = (),
    ) -> None:
        self._registry = registry
        self._state = state
        self._ways = ways
        self._delta_memory = delta_memory
        self._whole: set[str] = set()
        self._kept_plans = set(kept_plans)
        self._lock = threading.Lock()
        self._live: dict[str, LiveModel] = {}
        self._refused: dict[tuple[str, int], str] = {}

    @property
    def live(self) -> dict[str, LiveModel]:
        """The versions that answer, by model name."""
        return self._live

    def for_labels(self, labels: Iterable[str], name: str = "", reserved: Collection[str] = ()) -> LiveModel:
        """Return the live model that predicts ``labels``: the named one, or the latest released that is not reserved.

        Raises NotFoundError for a name that is not live, UnavailableError where no model fits.
        """
        needed = set(labels)
        live = self._live
        if name:
            if name not in live:
                raise NotFoundError(f"No version of model {name!r} is live.", nearest(name, list(live)))
            candidates = [live[name]]
        else:
            candidates = [model for model in reversed(live.values()) if model.name not in reserved]
        for model in candidates:
            if not missing_labels(needed, model.tasks):
                return model
        raise UnavailableError(
            f"No live model predicts {', '.join(sorted(needed))}.",
            "Train and publish one, then promote it: `bowerbird models promote NAME VERSION`.",
        )

    def plans(self) -> list[Plan]:
        """Return the plans of the versions that the registry calls live, as far as their bundles can be read."""
        plans = []
        for name, number in self._registry.live_versions().items():
            folder = self._registry.bundles_folder / self._registry.version(name, number).path
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                plans.append(Plan.from_json((folder / PLAN).read_bytes()))
        return plans

    def refresh(self) -> list[BowerbirdError]:
        """Bring the live versions to what the registry says; return why versions were refused.

        A version that is refused once is not tried again until the registry names another one.
        """
        errors: list[BowerbirdError] = []
        wanted = self._registry.live_versions()
        self._withdraw(set(wanted))
        for name, number in wanted.items():
            current = self._live.get(name)
            answers = current is not None and current.version == number
            if answers or (name, number) in self._refused:
                continue
            try:
                self._release(self._registry.version(name, number))
            except UnavailableError as error:
                _LOG.warning("%s %d cannot be loaded yet: %s", name, number, error)
                errors.append(error)
            except BowerbirdError as error:
                self._refused[(name, number)] = str(error)
                _LOG.error("%s %d is refused, the former version goes on: %s", name, number, error)
                errors.append(error)
        return errors

    def promote(self, name: str, number: int) -> LiveModel:
        """Load and check a version, make it live here and in the registry; the former one goes on if it fails.

        Raises NotFoundError for a version that is not published, CorruptionError for a damaged one.
        """
        version = self._registry.version(name, number)
        model = self._release(version, lambda: self._registry.promote(name, number), verify_tables=True)
        self._refused.pop((name, number), None)
        return model

    def follow_deltas(self) -> None:
        """Apply the embedding deltas that came for live versions; one thread at a time calls this.

        A delta is a swap as a version is: one reference is replaced, and requests in flight go on with what they had.
        """
        for name, model in list(self._live.items()):
            fresh = model.followed()
            with self._lock:
                if self._live.get(name) is model:
                    self._live = {**self._live, name: fresh}

    def check_tables(self, stopping: threading.Event) -> None:
        """Compare the tables of live versions with their hashes, slowly; a version whose tables differ is withdrawn.

        For after a start, which maps tables and does not read them. Ends early once ``stopping`` is set.
        """
        for name, model in list(self._live.items()):
            if model.digest in self._whole:
                continue
            try:
                whole = check_slowly(model.folder, model.manifest, stopping)
            except CorruptionError as error:
                _LOG.error("%s %d is withdrawn: %s", name, model.version, error)
                self._refused[(name, model.version)] = str(error)
                self._withdraw(set(self._live) - {name})
                continue
            if whole:
                self._whole.add(model.digest)

    def _release(
        self, version: VersionRecord, record: Callable[[], object] = lambda: None, verify_tables: bool = False
    ) -> LiveModel:
        with self._lock, no_collection():
            try:
                folder = self._registry.bundles_folder / version.path
                model = load_model(folder, version, self._state, self._ways, self._delta_memory, verify_tables)
                warm(model)
                former = self._live.get(model.name)
                if former is not None:
                    take_over(model, former)
                record()
                if verify_tables:
                    self._whole.add(model.digest)
                self._live = {
                    **{key: each for key, each in self._live.items() if key != model.name},
                    model.name: model,
                }
            finally:
                self._drop_unused_plans()
        _LOG.info("%s %d answers, served by %s (%s)", model.name, model.version, model.way, model.choice.why)
        return model

    def _withdraw(self, wanted: set[str]) -> None:
        """Let go of the models that have no live version any more."""
        if set(self._live) <= wanted:
            return
        with self._lock:
            self._live = {name: model for name, model in self._live.items() if name in wanted}
            self._drop_unused_plans()

    def _drop_unused_plans(self) -> None:
        used = {model.plan_fingerprint for model in self._live.values()}
        self._state.keep_only(used | self._kept_plans)
