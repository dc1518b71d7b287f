"""What the runs of a load test showed, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bowerbird.loadtest.measured import Measured

_COLUMNS = (
    "load", "answered/s", "goodput/s", "p50", "p90", "p99", "p99.9", "max", "errors", "generator",
)  # fmt: skip


def table_of(found: Sequence[Measured], deadline: float) -> Table:
    """Return one row a run; latencies are milliseconds."""
    table = Table(title=f"Latencies in ms; goodput is what was answered within {deadline * 1e3:g} ms")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("load", "errors") else "right")
    for each in found:
        load = f"{each.offered:g}/s" if each.loop == "open" else f"closed, {each.connections}"
        errors = ", ".join(f"{count} × {kind}" for kind, count in each.errors.items())
        latencies = (each.p50, each.p90, each.p99, each.p999, each.greatest)
        table.add_row(
            load, f"{each.answered:,.1f}", f"{each.goodput:,.1f}", *(f"{value:,.2f}" for value in latencies),
            errors or "none", f"{each.busy:.0%} busy{', TOO SLOW' if each.bottleneck else ''}",
        )  # fmt: skip
    return table


def warnings_of(found: Sequence[Measured]) -> list[str]:
    """Return where figures say more of the load generator than of the server."""
    return [
        f"{each.offered:g}/s: {each.bottleneck}." if each.loop == "open" else f"closed loop: {each.bottleneck}."
        for each in found
        if each.bottleneck
    ]
