"""Rounds of measurements, interleaved over engines, and the rows that they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console

from bench.common import Row
from bench.features.run import Measured

_CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class Rounds:
    """One engine's rates in events a second, and its highest peak of memory in MiB."""

    rates: list[float]
    kernel: list[float]
    peak: float

    @property
    def rate(self) -> float:
        """The median rate."""
        return median(self.rates)

    @property
    def interval(self) -> str:
        """The lowest and the highest rate, as text."""
        return f"{min(self.rates) / 1e6:.3g}–{max(self.rates) / 1e6:.3g}M"


def interleaved(
    engines: Sequence[str], events: int, rounds: int, measure: Callable[[str], Measured]
) -> dict[str, Rounds]:
    """Measure every engine once in each round."""
    found: dict[str, list[Measured]] = {engine: [] for engine in engines}
    for number in range(rounds):
        for engine in engines:
            one = measure(engine)
            found[engine].append(one)
            said = (
                f"{events / one.seconds / 1e6:.3g}M events/s, {one.processor:.1f} s of processors, {one.peak:,.0f} MiB"
            )
            _CONSOLE.print(f"  round {number + 1}, {engine}: {said}", highlight=False)
    return {engine: _rounds(each, events) for engine, each in found.items()}


def _rounds(measured: list[Measured], events: int) -> Rounds:
    kernel = [events / one.kernel for one in measured if one.kernel]
    return Rounds([events / one.seconds for one in measured], kernel, max(one.peak for one in measured))


def compared(case: str, found: dict[str, Rounds]) -> list[Row]:
    """Return a row for each peer beside ours, then ours' kernel alone."""
    ours = found["ours"]
    rows = []
    for peer, other in found.items():
        if peer != "ours":
            note = f"{ours.interval} against {other.interval}; {ours.peak:,.0f} against {other.peak:,.0f} MiB"
            rows.append(Row(f"{case}, {peer}", ours.rate, "events/s", other.rate, ours.rate / other.rate, True, note))
    return rows + alone(f"{case}, kernel alone", ours) if ours.kernel else rows


def alone(case: str, ours: Rounds) -> list[Row]:
    """Return ours' row of a case that has no peer; the kernel's rate where the case says so."""
    rates = ours.kernel if case.endswith("kernel alone") else ours.rates
    note = f"{min(rates) / 1e6:.3g}–{max(rates) / 1e6:.3g}M; {ours.peak:,.0f} MiB"
    return [Row(case, median(rates), "events/s", note=note)]
