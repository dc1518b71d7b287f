"""The report of a live system: metrics by version, coverage, parity, as text and as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.live import LiveReport, measure_live
from bowerbird.monitoring.parity import ParityReport, check_parity, describe_parity
from bowerbird.serving.logged_slates import LoggedSlate, loaded, logged_slates

_SHOWN_FEATURES = 12


class Report(msgspec.Struct, frozen=True):
    """Everything that ``bowerbird report`` found."""

    created: str
    live: LiveReport
    parity: ParityReport


def make_report(
    workspace: Workspace, since: int | None = None, progress: Callable[[int], None] | None = None
) -> Report:
    """Read the slates served since a time (microseconds) and judge them; nothing is written."""
    live = measure_live(workspace, loaded(slates_since(workspace, since)))
    parity = check_parity(workspace, slates_since(workspace, since), progress)
    return Report(datetime.now(UTC).isoformat(timespec="seconds"), live, parity)


def slates_since(workspace: Workspace, since: int | None) -> Iterable[LoggedSlate]:
    """Return the slates served since a time (microseconds), oldest first, as they stand on disk."""
    return (slate for slate in logged_slates(workspace.slates_folder) if since is None or slate.time >= since)


def write_report(workspace: Workspace, report: Report) -> Path:
    """Write the report as JSON under the project's reports folder; returns the file."""
    workspace.reports_folder.mkdir(parents=True, exist_ok=True)
    file = workspace.reports_folder / f"report-{report.created.replace(':', '')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return file


def describe_report(report: Report) -> str:
    """Return the report as plain text for a person."""
    live, parity = report.live, report.parity
    lines = [
        f"{live.slates:,} slates, {live.exposures - live.older:,} exposures reported for them "
        f"({live.unmatched:,} unmatched), {live.older:,} for older slates"
    ]
    lines += [
        "",
        f"{'version':<20} {'label':<12} {'exposures':>9} {'rate':>7} {'AUC':>7} {'PCOC':>6} {'NE':>6} {'ECE':>6}",
    ]
    for row in live.versions:
        scores = f"{row.rate:7.2%}"
        if row.metrics is not None:
            scores += f" {row.metrics.auc:7.4f} {row.metrics.pcoc:6.3f} {row.metrics.ne:6.3f} {row.metrics.ece:6.3f}"
        lines.append(f"{row.model + ' ' + str(row.version):<20} {row.label:<12} {row.exposures:>9,} {scores}")
        if row.immature:
            lines.append(f"{'':<33} {row.immature:>9,} not yet mature")
    lines += ["", "Features by coverage, the emptiest first"]
    for coverage in live.coverage[:_SHOWN_FEATURES]:
        mean = "" if coverage.mean is None else f"  mean {coverage.mean:.4g}"
        lines.append(f"  {coverage.feature:<32} {coverage.present:7.2%}{mean}")
    lines += ["", *describe_parity(parity)]
    return "\n".join(lines)
