"""What the runs of a load test showed, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bowerbird.loadtest.measured import Measured

_COLUMNS = ("load", "ok/s", "good/s", "p50", "p90", "p99", "p99.9", "max", "busy", "errors")
_LONGEST = 300


def table_of(found: Sequence[Measured], deadline: float) -> Table:
    """Return one row a run; latencies are milliseconds, *busy* is the load generator's own share of the time."""
    table = Table(title=f"Latencies in ms; good: answered within {deadline * 1e3:g} ms", box=SIMPLE_HEAD)
    for name in _COLUMNS:
        text = name in ("load", "errors")
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "errors")
    for each in found:
        rates = (each.answered, each.goodput)
        latencies = (each.p50, each.p90, each.p99, each.p999, each.greatest)
        errors = ", ".join(f"{count} × {kind}" for kind, count in each.errors.items())
        busy = f"{each.busy:.0%}{' !' if each.bottleneck else ''}"
        table.add_row(name_of(each), *(_shown(value) for value in (*rates, *latencies)), busy, errors or "none")
    return table


def name_of(run: Measured) -> str:
    """Return what a run is called: its rate, or its connections."""
    return f"{run.offered:g}/s" if run.loop == "open" else f"closed, {run.connections}"


def warnings_of(found: Sequence[Measured]) -> list[str]:
    """Return where figures say more of the load generator than of the server."""
    return [f"{name_of(each)}: {each.bottleneck}." for each in found if each.bottleneck]


def refusals_of(found: Sequence[Measured]) -> list[str]:
    """Return what servers said as they refused, once a kind of error."""
    said = {kind: text for each in found for kind, text in each.said.items()}
    return [f"{kind}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}" for kind, text in said.items()]


def _shown(value: float) -> str:
    if not value >= 100:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
