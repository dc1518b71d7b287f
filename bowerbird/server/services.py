"""The parts behind the handlers."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

from bowerbird.bundles.registry import Registry
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import UnavailableError
from bowerbird.log.snapshots import SnapshotStore
from bowerbird.pipeline.channels import Channel
from bowerbird.pipeline.recommend import ScenePipeline
from bowerbird.recall.items import ItemCatalog
from bowerbird.server.load.admission import Work
from bowerbird.server.load.deadlines import deadline_of
from bowerbird.server.load.pool import make_pool
from bowerbird.server.load.service_time import ServiceTime
from bowerbird.server.observe.metrics import Metrics
from bowerbird.server.observe.metrics_exchange import MetricsExchange
from bowerbird.server.observe.observer import Observer
from bowerbird.server.observe.state_report import StateReport
from bowerbird.server.processes.relay import RelayClient, RelayServer
from bowerbird.server.status import Status
from bowerbird.server.web.access import KeyStore
from bowerbird.server.web.connection_limits import ConnectionLimits
from bowerbird.server.web.http import Request
from bowerbird.serving.background import background_thread
from bowerbird.serving.clock import Clock, time_source
from bowerbird.serving.degradation import Degradation, Level
from bowerbird.serving.ranker import SceneRanker
from bowerbird.serving.releases import Releases
from bowerbird.serving.request_form import RequestForm
from bowerbird.serving.slate_retention import open_slates
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_keeper import StateKeeper
from bowerbird.serving.state_view import StateSource
from bowerbird.serving.threads import scoring_threads
from bowerbird.serving.writer import EventWriter


@dataclass(frozen=True)
class SceneServices:
    """What answers for one scene."""

    name: str
    ranker: SceneRanker
    pipeline: ScenePipeline
    channels: dict[str, Channel]
    deadline_seconds: float
    levels: list[Level]
    _services: defaultdict[tuple[bool, int], ServiceTime] = field(default_factory=lambda: defaultdict(ServiceTime))

    def service(self, recommends: bool, level: int) -> ServiceTime:
        """Return the times of its recommendations or scores at a level."""
        return self._services[recommends, level]

    def usual_seconds(self, level: int) -> float:
        """Return what an answer of usual size takes at a level, whichever kind takes longer."""
        return max(self.service(recommends, level).usual() for recommends in (False, True))


@dataclass(frozen=True)
class Writing:
    """What only the process that writes has."""

    state: LiveState
    snapshots: SnapshotStore
    keeper: StateKeeper
    writer: EventWriter


class Services:
    """What exists from the first moment, and what ``start`` adds before the status is *ready*.

    ``state``, ``releases``, ``registry`` and ``scenes`` may only be used after ``status.check_ready()``; ``items`` are
    all that the log names once ``items_known`` is set.
    The process that writes has ``writing``, and ``relay`` where there are others, each of which has ``link`` to it;
    ``exchange`` joins the metrics of several.
    """

    state: StateSource
    writing: Writing
    releases: Releases
    registry: Registry
    scenes: dict[str, SceneServices]

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.link: RelayClient | None = None
        self.relay: RelayServer | None = None
        self.exchange: MetricsExchange | None = None
        self.items = ItemCatalog()
        self.items_known = threading.Event()
        self.form = RequestForm(workspace.project)
        self._service_times: defaultdict[str, ServiceTime] = defaultdict(ServiceTime)
        self.status = Status()
        self.metrics = Metrics()
        self.observer = Observer(self.metrics, workspace.settings.telemetry, workspace.project.name)
        self.clock = Clock(time_source(workspace.clock_file))
        self.keys = KeyStore(workspace.keys_file)
        self.slates, self.slate_retention = open_slates(workspace)
        settings = workspace.settings.server
        self.background = background_thread()
        threads = scoring_threads(settings)
        self.pool = make_pool(threads, settings.queue, self.metrics.observe_wait)
        self.degradation = Degradation(max(1, threads))
        self.limits = ConnectionLimits(
            settings.connections, settings.header_seconds, settings.body_seconds, settings.write_seconds
        )

    def work(self, request: Request, kind: str) -> Work:
        """Return a request's work of a kind that has the server's deadline unless it says another."""
        deadline = deadline_of(request, self.workspace.settings.server.deadline_seconds)
        return self.work_until(kind, request.arrived, deadline)

    def work_until(self, kind: str, arrived: float, deadline: float, size: float = 0.0) -> Work:
        """Return work of a kind and size that came at ``arrived`` and is due by ``deadline`` (monotonic seconds)."""
        return Work(self._service_times[kind], size, arrived, deadline)

    def observe(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.load.observe(self.pool.report(), self.limits, self.degradation.levels())
        self.metrics.log_position.set(self.state.lsn)
        self.metrics.items.set(len(self.items))
        self.metrics.slates.observe(self.slates, self.slate_retention, writes_events=self.link is None)
        if self.link is None:
            self.metrics.events_late.set(self.writing.writer.late)
            self.metrics.state.observe(self.state_report())
        self.metrics.ways.observe(self.releases.live.values())
        self.metrics.deltas.observe(self.releases.live.values())
        for model in self.releases.live.values():
            self.metrics.live_version.labels(model.name).set(model.version)

    def metrics_text(self) -> bytes:
        """Return this process's metrics as of now."""
        if self.status.phase == "ready":
            self.observe()
        return self.metrics.text()

    def state_report(self) -> StateReport:
        """Return the size of the state, how it was recovered and what the memory budget cost."""
        state, keeper, snapshots = self.writing.state, self.writing.keeper, self.writing.snapshots
        usage, recovery = state.usage(), state.recovery
        return StateReport(
            lsn=state.lsn,
            groups=len(state.groups),
            keys=sum(usage.family_keys.values()),
            bytes=usage.memory,
            budget=self.workspace.settings.state.memory_bytes,
            refused=usage.refused,
            expired=usage.expired,
            snapshot_age_seconds=keeper.snapshot_age,
            snapshots_failed=snapshots.failed,
            snapshots_skipped=snapshots.skipped,
            recovery_seconds=recovery.seconds,
            recovered_groups=recovery.restored_groups,
            recovered_records=recovery.replayed_records,
        )

    def summary(self) -> list[str]:
        """Return what is served, in lines for people."""
        lines = [f"{self.workspace.project.name}: {self.state.lsn:,} records, {len(self.items):,} items."]
        lines += [
            f"Model {model.name}, version {model.version}, served by {model.way} ({model.choice.why})."
            for model in self.releases.live.values()
        ]
        for scene in self.scenes.values():
            try:
                lines.append(f"Scene {scene.name}: model {scene.ranker.model().name}.")
            except UnavailableError as error:
                lines.append(f"Scene {scene.name} cannot answer yet: {error}")
        return lines
