"""Pictures of a run, drawn without a display: its curves, its reliability, what its features are worth."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bowerbird.durable import write_atomically
from bowerbird.training.curve import Evaluation, read_curve
from bowerbird.training.quality.importance import Importance
from bowerbird.training.quality.reliability import ReliabilityBin

CURVES_FILE = "curves.png"
RELIABILITY_FILE = "reliability.png"
IMPORTANCE_FILE = "importance.png"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito (2008): told apart without colour vision, too."""
_DOTS = 110
_MOST_FEATURES = 30

Reliability = Mapping[str, Mapping[str, Sequence[ReliabilityBin]]]
"""By task, then by the name of a curve."""


def plot_run(folder: Path, reliability: Reliability) -> list[Path]:
    """Write ``curves.png`` (where the run has evaluations) and ``reliability.png`` into a run's folder.

    Returns what was written; raises StorageError when the file system refuses.
    """
    curves = plot_curves_of(folder)
    drawn = plot_reliability(folder / RELIABILITY_FILE, reliability)
    return [drawn] if curves is None else [curves, drawn]


def plot_curves_of(folder: Path) -> Path | None:
    """Write ``curves.png`` into a run's folder and return it; None for a run without evaluations (LightGBM's)."""
    curve = read_curve(folder)
    return plot_curves(folder / CURVES_FILE, curve) if curve else None


def plot_curves(file: Path, curve: Sequence[Evaluation]) -> Path:
    """Draw training loss, and AUC and log loss on validation by task, against epochs; returns the file."""
    epochs = [one.epoch for one in curve]
    names = [name for name in ("auc", "log_loss") if any(name in values for values in curve[-1].metrics.values())]
    figure = Figure(figsize=(4.2 * (1 + len(names)), 3.4), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(np.array(figure.subplots(1, 1 + len(names)))))
    axes[0].plot(epochs, [one.loss for one in curve], color="#333333", marker="o", markersize=3)
    _dress(axes[0], "training loss", "epoch", "")
    for axis, name in zip(axes[1:], names, strict=True):
        for colour, task in zip(_colours(len(curve[-1].metrics)), curve[-1].metrics, strict=True):
            values = [one.metrics.get(task, {}).get(name, float("nan")) for one in curve]
            axis.plot(epochs, values, color=colour, marker="o", markersize=3, label=task)
        _dress(axis, f"validation {name.replace('_', ' ').replace('auc', 'AUC')}", "epoch", "")
        axis.legend(frameon=False, fontsize=8)
    return _write(figure, file)


def plot_reliability(file: Path, reliability: Reliability) -> Path:
    """Draw how often what was predicted happened, one panel per task, on logarithmic axes; returns the file."""
    tasks = list(reliability)
    figure = Figure(figsize=(4.2 * max(len(tasks), 1), 4.0), layout="constrained")
    for place, task in enumerate(tasks):
        axis = figure.add_subplot(1, len(tasks), place + 1)
        for colour, (name, bins) in zip(_colours(len(reliability[task])), reliability[task].items(), strict=True):
            _draw_bins(axis, colour, name, bins)
        _draw_diagonal(axis, [one for bins in reliability[task].values() for one in bins])
        _dress(axis, task, "mean prediction", "mean label")
        axis.legend(frameon=False, fontsize=8)
    return _write(figure, file)


def plot_importance(file: Path, importance: Mapping[str, Sequence[Importance]]) -> Path:
    """Draw the log loss that dealing out each feature anew adds, one panel per task; returns the file."""
    most = max((min(len(found), _MOST_FEATURES) for found in importance.values()), default=1)
    figure = Figure(figsize=(5.2 * max(len(importance), 1), 1.0 + 0.22 * most), layout="constrained")
    for place, (task, found) in enumerate(importance.items()):
        axis = figure.add_subplot(1, len(importance), place + 1)
        shown = list(found[:_MOST_FEATURES])[::-1]
        middle = np.array([one.log_loss.estimate for one in shown])
        low, high = (np.array([getattr(one.log_loss, end) for one in shown]) for end in ("low", "high"))
        error = np.nan_to_num(np.stack([middle - low, high - middle]))
        axis.barh([one.feature for one in shown], middle, xerr=error, color=_COLOURS[0], height=0.6, ecolor="#333333")
        axis.axvline(0, color="#333333", linewidth=0.8)
        _dress(axis, task, "log loss added (nats)", "")
        axis.tick_params(labelsize=7)
    return _write(figure, file)


def _draw_bins(axis: Axes, colour: str, name: str, bins: Sequence[ReliabilityBin]) -> None:
    drawn = [one for one in bins if one.happened > 0 and one.predicted > 0]
    happened = np.array([one.happened for one in drawn])
    reach = np.array([[one.happened - max(one.low, 1e-6), one.high - one.happened] for one in drawn]).reshape(-1, 2)
    axis.errorbar(
        [one.predicted for one in drawn], happened, reach.T.clip(0), color=colour, fmt="o-", markersize=3,
        linewidth=1, elinewidth=0.8, label=name,
    )  # fmt: skip


def _draw_diagonal(axis: Axes, bins: Sequence[ReliabilityBin]) -> None:
    values = [value for one in bins for value in (one.predicted, one.happened) if value > 0]
    if values:
        ends = [min(values), max(values)]
        axis.plot(ends, ends, color="#999999", linewidth=0.8, linestyle="--", zorder=0, label="as predicted")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(ends[0] / 1.5, ends[1] * 1.5)


def _dress(axis: Axes, title: str, below: str, beside: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(below, fontsize=9)
    axis.set_ylabel(beside, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def _colours(count: int) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(count)]


def _write(figure: Figure, file: Path) -> Path:
    """Write a figure as PNG; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS, metadata={"Software": None})
    write_atomically(file, buffer.getvalue())
    return file
