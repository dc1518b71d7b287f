"""What is explained: an exposure as its samples read it, or a candidate of a slate as it was served."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, NotFoundError
from bowerbird.log.reader import ID, LSN, READ_LSN, READ_TIME, LogReader
from bowerbird.log.slate_id import made_before
from bowerbird.monitoring.attributes import Words
from bowerbird.monitoring.bundled import bundled_plan
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan
from bowerbird.samples.manifest import SampleManifest, read_manifest, read_plan
from bowerbird.samples.replay import reads_of_exposures
from bowerbird.serving.logged_slates import logged_slates
from bowerbird.serving.slate import Slate

Id = str | int


@dataclass(frozen=True)
class Subject:
    """One read: who and what, where in the log, by which plan.

    ``encode`` gives the read's slots, uint64 [slots, 1], for an encoder of any part of the plan. ``logged`` are a
    slate's features as served, ``position`` the candidate's row in them. ``values`` are the exposure's columns.
    ``folder`` holds the source of users' functions where the process does not know it.
    """

    identity: str
    user: Id
    item: Id
    read_lsn: int
    read_time: int
    plan: Plan
    encode: Callable[[Encoder], Words]
    values: dict[str, Any]
    logged: FeatureBlock | None = None
    position: int = 0
    folder: Path | None = None


def exposure_subject(workspace: Workspace, reader: LogReader, exposure_id: str) -> Subject:
    """Return an exposure's read; raises NotFoundError for an id that the log does not have."""
    exposures = reader.exposures()
    found = exposures.filter(pc.equal(exposures.column(ID), exposure_id))
    if found.num_rows == 0:
        raise NotFoundError(
            f"The log has no exposure {exposure_id!r} among {exposures.num_rows:,}.",
            "Exposure ids stand in the samples' column `exposure_id`; for a slate id give --item.",
        )
    row = found.slice(0, 1)
    values = row.to_pylist()[0]
    project = workspace.project
    return Subject(
        identity=exposure_id,
        user=values[project.user.name],
        item=values[project.item.name],
        read_lsn=values[READ_LSN],
        read_time=values[READ_TIME],
        plan=fitted_plan(workspace),
        encode=lambda encoder: reads_of_exposures(encoder, row).slots,
        values={name: value for name, value in values.items() if name not in (ID, LSN)},
    )


def slate_subject(workspace: Workspace, slate_id: str, item: str) -> Subject:
    """Return the read of a candidate of a served slate; raises NotFoundError where no such answer was logged."""
    slate = _logged_slate(workspace, slate_id)
    wanted = _item_id(workspace, item)
    if wanted not in slate.candidates:
        raise NotFoundError(
            f"Item {item!r} is not among the {len(slate.candidates)} candidates of slate {slate_id!r}.",
            f"Its first candidates are {', '.join(str(each) for each in slate.candidates[:5])}.",
        )

    def encode(encoder: Encoder) -> Words:
        slots = encoder.encode_request(slate.user, slate.context)
        slots[encoder.plan.item_slot] = encoder.encode_items([wanted])[0]
        return np.ascontiguousarray(slots[:, None])

    bundle = workspace.bundles_folder / slate.model / str(slate.version)
    return Subject(
        identity=slate_id,
        user=slate.user,
        item=wanted,
        read_lsn=slate.lsn,
        read_time=slate.time,
        plan=bundled_plan(bundle),
        encode=encode,
        values={workspace.project.user.name: slate.user, workspace.project.item.name: wanted, **slate.context},
        logged=slate.features,
        position=slate.candidates.index(wanted),
        folder=bundle,
    )


def _logged_slate(workspace: Workspace, slate_id: str) -> Slate:
    oldest = math.inf
    for logged in logged_slates(workspace.slates_folder):
        slate = logged.load() if logged.slate_id == slate_id else None
        if slate is not None:
            return slate
        oldest = min(oldest, logged.time)
    if made_before(slate_id, oldest):
        raise NotFoundError(
            f"Slate {slate_id!r} is older than every slate on disk.",
            "It has probably been removed: `slates_size` and `slates_days` under [server] say how much is kept.",
        )
    raise NotFoundError(
        f"No slate {slate_id!r} is logged.",
        "Give the `slate_id` of an answer that a model of this server gave.",
    )


def latest_samples(workspace: Workspace) -> SampleManifest | None:
    """Return the manifest of the sample folder that was made last; None where there is none."""
    folders = [file.parent for file in workspace.samples_folder.glob("[!.]*/manifest.json")]
    found = [read_manifest(folder) for folder in sorted(folders)]
    return max(found, key=lambda manifest: manifest.created, default=None)


def fitted_plan(workspace: Workspace) -> Plan:
    """Return the project's plan; with transforms to fit, the one that the latest samples were made with.

    Raises InputError where transforms are to be fitted and no samples exist.
    """
    plan = compile_plan(workspace.project)
    if not plan.fits:
        return plan
    samples = latest_samples(workspace)
    if samples is None:
        raise InputError(
            f"{len(plan.fits)} transforms are not fitted yet.", "Fit them by making samples: `bowerbird samples`."
        )
    return read_plan(workspace.samples_folder / samples.name)


def _item_id(workspace: Workspace, item: str) -> Id:
    if workspace.project.item.id is not ColumnType.INTEGER:
        return item
    try:
        return int(item)
    except ValueError as error:
        raise InputError(f"Item {item!r} is not an integer.", "Items of this project have INTEGER ids.") from error
