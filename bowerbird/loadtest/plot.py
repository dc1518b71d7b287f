"""A load test as a picture, drawn without a display: latencies by percentile, answers against what was offered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bowerbird.durable import write_atomically
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.table import name_of

_DOTS = 110
_TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def plot_load(file: Path, found: Sequence[Measured]) -> Path:
    """Write the picture and return its file; raises StorageError when the file system refuses."""
    opened = [each for each in found if each.loop == "open"]
    figure = Figure(figsize=(10.0, 4.0) if opened else (5.4, 4.0), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 2 if opened else 1, squeeze=False)[0])
    _draw_spectra(panels[0], found)
    if opened:
        _draw_goodput(panels[1], opened)
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", dpi=_DOTS)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, picture.getvalue())
    return file


def _draw_spectra(axis: Axes, found: Sequence[Measured]) -> None:
    """Draw latency against 1 / (1 - share), so that each nine takes as much room."""
    for each in found:
        shown = [(1.0 / (1.0 - share), latency) for share, latency in each.spectrum if 0.0 < share < 1.0]
        style = "-" if each.loop == "open" else "--"
        axis.plot([x for x, _ in shown], [y for _, y in shown], style, label=name_of(each))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([1.0 / (1.0 - share) for share in _TICKS], [f"{share * 100:g}%" for share in _TICKS])
    axis.set_xlabel("share of requests")
    axis.set_ylabel("latency, ms (open loop: from the intended time)")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)


def _draw_goodput(axis: Axes, opened: Sequence[Measured]) -> None:
    rows = sorted(opened, key=lambda each: each.offered)
    offered = [each.offered for each in rows]
    axis.plot(offered, offered, ":", color="#999999", label="offered")
    axis.plot(offered, [each.answered for each in rows], "o-", label="answered")
    axis.plot(offered, [each.goodput for each in rows], "s-", label="within the deadline")
    axis.set_xlabel("offered requests/s")
    axis.set_ylabel("requests/s")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)
