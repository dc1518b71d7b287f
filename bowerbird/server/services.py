"""The parts behind the handlers."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird.bundles.registry import Registry
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import UnavailableError
from bowerbird.log.snapshots import SnapshotStore
from bowerbird.pipeline.channels import Channel
from bowerbird.pipeline.recommend import ScenePipeline
from bowerbird.recall.items import ItemCatalog
from bowerbird.server.access import KeyStore
from bowerbird.server.metrics import Metrics
from bowerbird.server.pool import ScoringPool
from bowerbird.server.state_report import StateReport
from bowerbird.server.status import Status
from bowerbird.serving.clock import Clock, time_source
from bowerbird.serving.ranker import SceneRanker
from bowerbird.serving.releases import Releases
from bowerbird.serving.request_form import RequestForm
from bowerbird.serving.slates import SlateLog
from bowerbird.serving.state import LiveState
from bowerbird.serving.state_keeper import StateKeeper
from bowerbird.serving.writer import EventWriter


@dataclass(frozen=True)
class SceneServices:
    """What answers for one scene."""

    name: str
    ranker: SceneRanker
    pipeline: ScenePipeline
    channels: dict[str, Channel]


class Services:
    """What exists from the first moment, and what ``start`` adds before the status is *ready*.

    ``state``, ``snapshots``, ``keeper``, ``writer``, ``releases``, ``registry``, ``items`` and ``scenes`` may only
    be used after ``status.check_ready()``.
    """

    state: LiveState
    snapshots: SnapshotStore
    keeper: StateKeeper
    writer: EventWriter
    releases: Releases
    registry: Registry
    items: ItemCatalog
    scenes: dict[str, SceneServices]

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.form = RequestForm(workspace.project)
        self.status = Status()
        self.metrics = Metrics()
        self.clock = Clock(time_source(workspace.clock_file))
        self.keys = KeyStore(workspace.keys_file)
        self.slates = SlateLog(workspace.slates_folder)
        self.pool = ScoringPool(workspace.settings.server.threads)

    def observe(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.log_position.set(self.state.lsn)
        self.metrics.items.set(len(self.items))
        self.metrics.slates_lost.set(self.slates.lost)
        self.metrics.events_late.set(self.writer.late)
        self.metrics.state.observe(self.state_report())
        self.metrics.ways.observe(self.releases.live.values())
        for model in self.releases.live.values():
            self.metrics.live_version.labels(model.name).set(model.version)

    def state_report(self) -> StateReport:
        """Return the size of the state, how it was recovered and what the memory budget cost."""
        usage, recovery = self.state.usage(), self.state.recovery
        return StateReport(
            lsn=self.state.lsn,
            groups=len(self.state.groups),
            keys=sum(usage.family_keys.values()),
            bytes=usage.memory,
            budget=self.workspace.settings.state.memory_bytes,
            refused=usage.refused,
            expired=usage.expired,
            snapshot_age_seconds=self.keeper.snapshot_age,
            snapshots_failed=self.snapshots.failed,
            snapshots_skipped=self.snapshots.skipped,
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
