"""A sample dataset as a person reads it."""

from __future__ import annotations

from datetime import UTC, datetime

from bowerbird.samples.manifest import SampleManifest

_BAR = 30
_MOST_DAYS = 45


def describe(manifest: SampleManifest) -> str:
    """Return what was made, its labels, its days and where it stands in the log, as plain text."""
    lines = [
        f"Samples {manifest.name!r} of project {manifest.project!r}, made {manifest.created}",
        f"  {manifest.rows:,} rows from {manifest.exposures:,} exposures, {len(manifest.features)} features, "
        f"plan {manifest.plan}",
        f"  exposures from {_moment(manifest.first_time)} to {_moment(manifest.last_time)}",
        f"  read at LSN {manifest.first_lsn:,} to {manifest.last_lsn:,} of {manifest.log_size:,} log records",
    ]
    if manifest.negative_rate < 1:
        lines.append(
            f"  negatives kept at {manifest.negative_rate:g}, weighted {1 / manifest.negative_rate:g}"
        )
    if manifest.replay_seconds > 0:
        rate = manifest.replay_records / manifest.replay_seconds
        lines.append(
            f"  replayed {manifest.replay_records:,} records in {manifest.replay_seconds:.1f} s ({rate:,.0f}/s)"
        )
    lines.append("Labels")
    for label in manifest.labels:
        given = f", counted given {label.given}" if label.given else ""
        lines.append(
            f"  {label.name}: {label.positives:,} of {label.mature:,} mature ({label.rate:.2%}), "
            f"{label.immature:,} not yet mature{given}"
        )
    lines.extend(_calendar(manifest))
    return "\n".join(lines)


def _calendar(manifest: SampleManifest) -> list[str]:
    """Return rows by day, or by month where there are many days."""
    monthly = len(manifest.days) > _MOST_DAYS
    rows: dict[str, int] = {}
    for day in manifest.days:
        name = day.date[:7] if monthly else day.date
        rows[name] = rows.get(name, 0) + day.rows
    most = max(rows.values())
    bars = [f"  {name:<10} {count:>10,} {'█' * round(_BAR * count / most)}" for name, count in rows.items()]
    return [f"{'Months' if monthly else 'Days'} (UTC)", *bars]


def _moment(time: int) -> str:
    return datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
