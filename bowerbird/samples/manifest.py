"""What a sample dataset says of itself."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bowerbird.errors import CorruptionError, NotFoundError
from bowerbird.plan.functions import read_function_files
from bowerbird.plan.spec import Plan

MANIFEST_FILE = "manifest.json"
PLAN_FILE = "plan.json"


class LabelSummary(msgspec.Struct, frozen=True):
    """Counts of one label: ``mature`` samples, ``positives`` among them, ``immature`` ones left unknown."""

    name: str
    mature: int
    positives: int
    immature: int
    given: str | None = None

    @property
    def rate(self) -> float:
        """Positives per mature sample, before any down-sampling weight; NaN without one."""
        return self.positives / self.mature if self.mature else float("nan")


class DayCount(msgspec.Struct, frozen=True):
    """Rows of one day (UTC date of the exposure)."""

    date: str
    rows: int


class SampleManifest(msgspec.Struct, frozen=True):
    """Describes a sample folder; times are microseconds, LSNs are places in the log.

    ``rows`` counts what is stored and ``exposures`` what was there before down-sampling negatives to
    ``negative_rate``. ``aggregates`` are the fingerprints of the plan's aggregates.
    """

    name: str
    project: str
    plan: str
    aggregates: list[str]
    rows: int
    exposures: int
    negative_rate: float
    first_lsn: int
    last_lsn: int
    first_time: int
    last_time: int
    log_size: int
    labels: list[LabelSummary]
    days: list[DayCount]
    features: list[str]
    files: dict[str, str]
    created: str
    replay_seconds: float = 0.0
    replay_records: int = 0


def read_manifest(folder: Path) -> SampleManifest:
    """Read a sample folder's manifest; raises NotFoundError or CorruptionError."""
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise NotFoundError(f"{folder} holds no samples.", "Make them with `bowerbird samples`.")
    try:
        return msgspec.json.decode(file.read_bytes(), type=SampleManifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptionError(
            f"{file}: {error}.", "Make the samples again with `bowerbird samples`."
        ) from error


def read_plan(folder: Path) -> Plan:
    """Read the fitted plan of a sample folder, with its functions' sources; raises NotFoundError or CorruptionError."""
    file = folder / PLAN_FILE
    if not file.is_file():
        raise NotFoundError(
            f"{folder} holds no {PLAN_FILE}.", "Make the samples again with `bowerbird samples`."
        )
    try:
        plan = Plan.from_json(file.read_bytes())
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptionError(
            f"{file}: {error}.", "Make the samples again with `bowerbird samples`."
        ) from error
    read_function_files(plan, folder)
    return plan
