"""The demo's plots: PNG for the page, in a light and a dark dress, and text for the terminal."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import matplotlib

matplotlib.use("Agg")

import matplotlib.dates as dates
import matplotlib.pyplot as plt
from judge import Contestant, Judgement, running_auc
from matplotlib.axes import Axes

_BAR = 40


@dataclass(frozen=True)
class Dress:
    """Colours of a plot: paper is left transparent."""

    ink: str
    faint: str
    grid: str
    hero: str
    others: tuple[str, ...]


LIGHT = Dress("#22252b", "#6d7280", "#e2ded5", "#2050d8", ("#b98b3c", "#3f8f80", "#8a6bb0", "#9aa0ab"))
DARK = Dress("#e9e6df", "#9aa0ad", "#31353f", "#7ea2ff", ("#dcb063", "#6cc3b2", "#bb9be0", "#7d8491"))

Picture = dict[str, str]
"""PNG data addresses by dress: ``light``, ``dark``."""


def auc_picture(judgement: Judgement) -> Picture:
    """Draw every contestant's AUC with its 95% interval."""
    return _picture(lambda axes, dress: _draw_auc(axes, dress, judgement.contestants), (6.4, 4.0))


def calibration_picture(judgement: Judgement, names: list[str]) -> Picture:
    """Draw, for some contestants, the share of likes against the predicted one."""
    chosen = [judgement.of(name) for name in names]
    return _picture(lambda axes, dress: _draw_calibration(axes, dress, chosen), (4.6, 4.2))


def running_picture(judgement: Judgement, names: list[str], swapped: int) -> Picture:
    """Draw the AUC of everything played so far; ``swapped`` is when version 2 took over (seconds since 1970)."""
    return _picture(lambda axes, dress: _draw_running(axes, dress, judgement, names, swapped), (10.4, 3.9))


def _picture(draw: Callable[[Axes, Dress], None], size: tuple[float, float]) -> Picture:
    return {"light": _png(draw, LIGHT, size), "dark": _png(draw, DARK, size)}


def _png(draw: Callable[[Axes, Dress], None], dress: Dress, size: tuple[float, float]) -> str:
    style = {
        "font.family": "sans-serif",
        "font.size": 10.5,
        "text.color": dress.ink,
        "axes.labelcolor": dress.faint,
        "axes.edgecolor": dress.grid,
        "xtick.color": dress.faint,
        "ytick.color": dress.faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": dress.grid,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes, dress)
        data = io.BytesIO()
        figure.savefig(data, dpi=170, transparent=True)
        plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _draw_auc(axes: Axes, dress: Dress, contestants: list[Contestant]) -> None:
    for place, one in enumerate(contestants):
        hero = place == len(contestants) - 1
        colour = dress.hero if hero else dress.others[-1]
        axes.barh(place, one.auc - 0.5, left=0.5, height=0.58, color=colour, alpha=1 if hero else 0.65, zorder=2)
        if one.high > one.low:
            axes.plot([one.low, one.high], [place, place], color=dress.ink, linewidth=1.3, alpha=0.75, zorder=3)
        weight = "bold" if hero else "normal"
        axes.text(one.high + 0.006, place, f"{one.auc:.3f}", va="center", fontweight=weight, color=dress.ink)
    axes.set_yticks(range(len(contestants)), [one.name for one in contestants])
    axes.tick_params(axis="y", length=0, labelcolor=dress.ink)
    axes.set_xlim(0.5, max(one.high for one in contestants) + 0.05)
    axes.set_xlabel("AUC on the live ratings; 0.5 is chance")
    axes.grid(axis="x", zorder=0)
    axes.spines["left"].set_visible(False)


def _draw_calibration(axes: Axes, dress: Dress, contestants: list[Contestant]) -> None:
    axes.plot([0, 1], [0, 1], color=dress.faint, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    for one, colour in zip(contestants, [*dress.others[: len(contestants) - 1], dress.hero], strict=True):
        predicted, seen = zip(*one.calibration, strict=True)
        hero = colour == dress.hero
        axes.plot(predicted, seen, color=colour, marker="o", markersize=5.5 if hero else 4, label=one.name,
                  linewidth=2.2 if hero else 1.3, zorder=3 if hero else 2)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted share of likes", ylabel="share of likes that followed")
    axes.set_aspect("equal")
    axes.grid(zorder=0)
    axes.legend(frameon=False, loc="lower right")


def _draw_running(axes: Axes, dress: Dress, judgement: Judgement, names: list[str], swapped: int) -> None:
    for name, colour in zip(names, [*dress.others[: len(names) - 1], dress.hero], strict=True):
        times, areas = running_auc(judgement.of(name), judgement)
        moments = [datetime.fromtimestamp(time, UTC) for time in times]
        axes.plot(moments, areas, color=colour, linewidth=2.2 if colour == dress.hero else 1.4, label=name)
    if swapped:
        moment = datetime.fromtimestamp(swapped, UTC)
        axes.axvline(moment, color=dress.faint, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate("version 2", (moment, axes.get_ylim()[1]), xytext=(5, -4), textcoords="offset points",
                      va="top", color=dress.faint)  # fmt: skip
    axes.xaxis.set_major_locator(dates.DayLocator(interval=3))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%-d %b"))
    axes.set_ylabel("AUC so far")
    axes.grid(axis="y")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderaxespad=0.2)


def auc_text(judgement: Judgement) -> list[str]:
    """Return every contestant's AUC as bars of text."""
    best = max(one.auc for one in judgement.contestants) - 0.5
    return [
        f"{one.name:<22} {one.auc:.4f} {'█' * round(_BAR * max(0.0, one.auc - 0.5) / best)}"
        for one in judgement.contestants
    ]


def calibration_text(contestant: Contestant) -> list[str]:
    """Return predicted and observed shares of likes as bars of text."""
    return [
        f"said {said:>4.0%} {'░' * round(_BAR * said):<{_BAR}} came {came:>4.0%} {'█' * round(_BAR * came)}"
        for said, came in contestant.calibration
    ]
