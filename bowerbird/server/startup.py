"""Starting the parts in order, and stopping them in the opposite one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bowerbird.bundles.choose_way import way_setting
from bowerbird.bundles.registry import Registry
from bowerbird.declare.durations import microseconds
from bowerbird.errors import BowerbirdError
from bowerbird.log.live.write_ahead import WriteAheadLog, open_wal
from bowerbird.log.snapshots import open_snapshots
from bowerbird.pipeline.channels import scene_channels
from bowerbird.pipeline.recommend import ScenePipeline
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.recall.items import Id
from bowerbird.recall.live import ItemFeed, load_indexes
from bowerbird.recall.plan import RecallPlan, recall_plan
from bowerbird.server.processes.writer_calls import ITEMS
from bowerbird.server.services import SceneServices, Services, Writing
from bowerbird.serving.background import lower_priority
from bowerbird.serving.degradation import levels_of
from bowerbird.serving.intake import LiveIntake
from bowerbird.serving.live_model import warm
from bowerbird.serving.log_access import LogHistory, read_items, read_known_ids
from bowerbird.serving.ranker import SceneRanker
from bowerbird.serving.releases import Releases
from bowerbird.serving.shared_folder import open_shared_folder
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_groups import StateMaker
from bowerbird.serving.state_keeper import StateKeeper
from bowerbird.serving.state_view import StateView
from bowerbird.serving.threads import bound_model_threads, share_interpreter
from bowerbird.serving.writer import EventWriter

_LOG = logging.getLogger("bowerbird.server")
_POLL_SECONDS = 2.0
_DELTA_SECONDS = 0.2
_SLATES_SECONDS = 1.0


class _Reader:
    """Reads the recall plan's features from its live state."""

    def __init__(self, state: StateView) -> None:
        self._state = state

    def read(self, time_us: int, user: Id | None, items: Keys) -> FeatureBlock:
        """Return request features of ``user`` and item features of ``items``."""
        return self._state.read(time_us, user, {}, items)


class Startup:
    """Fills ``Services``; ``error`` says what kept it from doing so."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = threading.Event()
        self._followers: list[threading.Thread] = []
        self.error: Exception | None = None

    def start(self) -> bool:
        """Make room, read the log, load the live versions, take requests; False where ``error`` happened."""
        share_interpreter()
        bound_model_threads(self._services.workspace.settings.server)
        try:
            self._limit_slates()  # first: what comes then may need the space
            self._start()
        except Exception as error:
            self.error = error
            return False
        return True

    def cancel(self) -> None:
        """Make a start that is under way, and the following of the registry, end soon."""
        self._stopping.set()

    def stop(self) -> None:
        """Write what was accepted, end the threads and close the files."""
        self._stopping.set()
        for follower in self._followers:
            follower.join()
        self._services.background.shutdown()
        self._stop_writing()
        self._services.pool.close()
        self._services.slates.close()
        self._services.observer.close()

    def _start(self) -> None:
        raise NotImplementedError

    def _stop_writing(self) -> None:
        """Close what only the writer has."""

    def _open_registry(self, recall: RecallPlan) -> None:
        services = self._services
        registry = Registry(services.workspace.registry_url, services.workspace.bundles_folder)
        services.registry = registry
        services.releases = Releases(
            registry,
            services.state,
            way_setting(services.workspace),
            services.workspace.settings.server.delta_bytes,
            [recall.plan.fingerprint],
        )

    def _load_models(self) -> None:
        errors = self._services.releases.refresh()
        if errors:
            raise errors[0]

    def _begin(self) -> None:
        """Take requests."""
        services = self._services
        for model in services.releases.live.values():
            services.pool.on_every_thread(partial(warm, model))
        services.status.set("ready")
        followers = {
            "releases": self._poll,
            "deltas": self._follow_deltas,
            "tables": self._check_tables,
            "slates": self._keep_slates,
        }
        self._followers = [threading.Thread(target=target, name=name) for name, target in followers.items()]
        for follower in self._followers:
            follower.start()

    def _make_scenes(self, recall: RecallPlan) -> None:
        services = self._services
        reader = _Reader(services.state.require(recall.plan))
        indexes = load_indexes(services.workspace.recall_folder)
        services.scenes = {}
        for scene in services.workspace.project.scenes:
            features = recall.scenes[scene.name]
            ranker = SceneRanker(scene, services.form, services.releases, services.clock)
            channels = scene_channels(scene, features, reader, services.items, indexes)
            pipeline = ScenePipeline(scene, features, channels, reader, services.items, ranker, services.clock)
            default = services.workspace.settings.server.deadline_seconds
            deadline = microseconds(scene.deadline) / 1e6 if scene.deadline else default
            parts = SceneServices(scene.name, ranker, pipeline, channels, deadline, levels_of(scene.degrade))
            services.degradation.add_scene(scene.name, len(parts.levels), parts.usual_seconds)
            services.scenes[scene.name] = parts

    def _poll(self) -> None:
        """Follow the registry: a version promoted by another process answers within seconds."""
        lower_priority()
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                self._services.releases.refresh()
            except BowerbirdError as error:
                _LOG.warning("the registry was not read: %s", error)

    def _follow_deltas(self) -> None:
        lower_priority()
        while not self._stopping.wait(_DELTA_SECONDS):
            self._services.releases.follow_deltas()

    def _check_tables(self) -> None:
        """Compare mapped tables with their hashes while requests are answered, each version's once."""
        lower_priority()
        while not self._stopping.wait(_POLL_SECONDS):
            self._services.releases.check_tables(self._stopping)

    def _keep_slates(self) -> None:
        """Keep slates out of memory, and on disk within their limits: any process may be the last that answers."""
        lower_priority()
        while not self._stopping.wait(_SLATES_SECONDS):
            self._limit_slates()

    def _limit_slates(self) -> None:
        try:
            self._services.slates.end_old_segment()
            self._services.slates.spare_memory()
            self._services.slate_retention.apply(time.time())
        except OSError as error:
            _LOG.warning("slates are not kept within their limits: %s", error)


class WriterStartup(Startup):
    """Starts the process that writes events and feature state, and tells others of new items."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._log: WriteAheadLog | None = None
        self._state: LiveState | None = None
        self._keeper: StateKeeper | None = None
        self._writer: EventWriter | None = None

    def _start(self) -> None:
        services, workspace = self._services, self._services.workspace
        self._log = log = open_wal(workspace)
        services.clock.raise_floor(log.last_available)
        known = read_known_ids(workspace, log)
        read_items(workspace, log, services.items)
        services.items_known.set()
        snapshots = open_snapshots(workspace)
        maker = StateMaker(workspace.settings.state, open_shared_folder(workspace))
        state = LiveState(LogHistory(workspace, self._stopping), log.next_lsn, snapshots, maker)
        self._state = services.state = state
        recall = recall_plan(workspace.project)
        self._open_registry(recall)
        with state.prepared([recall.plan, *services.releases.plans()]):
            state.require(recall.plan)
            self._load_models()
        self._make_scenes(recall)
        feed = ItemFeed(workspace.project, services.items)

        def apply(events: Sequence[Mapping[str, Any]]) -> None:
            state.apply(events)  # type: ignore[arg-type]
            fresh = feed.apply(events)
            if fresh and services.relay is not None:
                services.relay.tell(ITEMS, fresh)

        self._writer = EventWriter(log, LiveIntake(workspace), known, services.clock, apply)
        self._keeper = StateKeeper(state, snapshots, workspace.settings.state, services.clock)
        services.writing = Writing(state, snapshots, self._keeper, self._writer)
        self._begin()

    def _stop_writing(self) -> None:
        for part in (self._writer, self._keeper, self._state, self._log):
            if part is not None:
                part.close()
