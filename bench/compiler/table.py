"""What the sittings found, as rows: ratios of medians with 95% intervals over turns, the gain in its three columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.common import Row, write
from bowerbird.compiler.precision import Precision

JUDGED = 500
"""The number of candidates that the aims are set for."""
RUNTIMES = ("ONNX Runtime", "OpenVINO", "torch.compile")
"""What most people deploy with."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
TUNED = "AOTInductor bf16, tiled"
Gates = Literal["as it is", "shifted", "none"]
WORDS: dict[Gates, str] = {
    "as it is": "both within the gates",
    "shifted": "both within the gates with a shift of their own",
    "none": "whatever the gates say",
}
LIMITS = {"fp32": 1e-4, "bf16": 0.2, "int8": 0.5}
"""How far a logit may be from eager PyTorch's, relative beyond 1, for answers to count as equal."""
_RESAMPLES = 2000


class Sitting:
    """One case's peers for one number of candidates: seconds [turns] by name, and what its build found."""

    def __init__(self, runs: Path, case: str, rows: int, isa: str = "best") -> None:
        found = json.loads((runs / f"{case}.{rows}.{isa}.json").read_text())
        self.case, self.rows, self.isa, self.date = case, rows, found["isa"], found["date"]
        self.cpu: str = found["machine"]["cpu"]
        self.seconds = {name: np.array(each["seconds"]) for name, each in found["peers"].items()}
        self.worst: dict[str, float] = {name: each["worst"] for name, each in found["peers"].items()}
        self.build: dict[str, Any] = json.loads((runs / f"{case}.build.json").read_text())

    def within(self, name: str, gates: Gates) -> bool:
        """Return whether a peer is within publishing's gates, or with a shift of its own."""
        found = self.build["peers"].get(name, {})
        return gates == "none" or bool(found.get("passed" if gates == "as it is" else "passed_shifted"))

    def equal(self, name: str) -> bool:
        """Return whether a peer's answers are eager PyTorch's as far as its precision allows."""
        return self.worst[name] <= LIMITS[precision_of(name)]

    def gates(self, name: str) -> str:
        """Return a peer's standing in a word."""
        return "within" if self.within(name, "as it is") else "shifted" if self.within(name, "shifted") else "outside"

    def micro(self, name: str) -> float:
        """Return a peer's microseconds per candidate."""
        return float(np.median(self.seconds[name])) / self.rows * 1e6

    def best(self, wanted: Callable[[str], bool]) -> str | None:
        """Return the fastest peer that is wanted."""
        return min((name for name in self.seconds if wanted(name)), key=self.micro, default=None)

    def row(self, title: str, ours: str | None, peer: str | None) -> Iterator[Row]:
        """Yield the comparison of two peers; none where one of them is not there."""
        if ours is None or peer is None:
            return
        ratio, low, high = interval(self.seconds[ours], self.seconds[peer])
        gates = f"gates: {self.gates(ours)} / {self.gates(peer)}"
        yield Row(
            f"{self.case}, N = {self.rows}: {title}", self.micro(ours), "µs per candidate", self.micro(peer), ratio,
            self.equal(ours) and self.equal(peer), f"95% {low:.2f} to {high:.2f}; {ours} / {peer}; {gates}",
        )  # fmt: skip


def precision_of(name: str) -> str:
    """Return the precision in a peer's name."""
    return name.partition(",")[0].rpartition(" ")[2]


def is_ours(name: str) -> bool:
    """Return whether a peer is one of our ways of serving: a backend on the graphs that the compiler cut."""
    return name.endswith(", ours") or name in (
        "PyTorch fp32, staged",
        "AOTInductor fp32, staged",
        "AOTInductor bf16, staged",
    )


def interval(ours: np.ndarray, peer: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of medians, and its 95% interval where turns are drawn again."""
    draws = np.random.default_rng(0).integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratios = np.median(peer[draws], axis=1) / np.median(ours[draws], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def judged(sitting: Sitting) -> Iterator[Row]:
    """Yield the rows that the aims are set for."""
    for gates, words in WORDS.items():
        ours = sitting.best(lambda name, wanted=gates: is_ours(name) and sitting.within(name, wanted))
        tiled = sitting.best(
            lambda name, wanted=gates: (
                name.endswith("tiled") and name.startswith(RUNTIMES) and sitting.within(name, wanted)
            )
        )
        tuned = TUNED if TUNED in sitting.seconds else None
        yield from sitting.row(f"ours / best tiled runtime, {words}", ours, tiled)
        yield from sitting.row(f"ours / {TUNED}, {words}", ours, tuned)
    for precision in PRECISIONS:
        yield from sitting.row(
            f"ours / best split by hand, {precision}",
            sitting.best(lambda name, wanted=precision: is_ours(name) and precision_of(name) == wanted),
            sitting.best(lambda name, wanted=precision: "by hand" in name and precision_of(name) == wanted),
        )


def columns(sitting: Sitting, roofs: dict[str, dict[str, float]]) -> Iterator[Row]:
    """Yield the gain's three columns: algebra, kernels, precision; and what part of the ceilings is reached."""
    engine = sitting.best(lambda name: name.endswith("fp32, staged"))
    if engine is not None:
        yield from sitting.row("algebra: one engine, staged / tiled", engine, engine.replace("staged", "tiled"))
    for precision in PRECISIONS:
        name = f"native {precision}, ours"
        peer = sitting.best(lambda name, wanted=precision: name.endswith(f"{wanted}, staged"))
        if name in sitting.seconds:
            yield from sitting.row(f"kernels: native / best engine on the staged graph, {precision}", name, peer)
            yield _roof(sitting, name, precision, roofs)
    exact = sitting.best(lambda name: is_ours(name) and precision_of(name) == "fp32")
    for precision in PRECISIONS[1:]:
        best = sitting.best(lambda name, wanted=precision: is_ours(name) and precision_of(name) == wanted)
        yield from sitting.row(f"precision: ours in {precision} / ours in fp32", best, exact)


def _roof(sitting: Sitting, name: str, precision: str, roofs: dict[str, dict[str, float]]) -> Row:
    cost = sitting.build["stages"]["pair"]
    rate = (cost["products"] + cost["others"]) / sitting.micro(name) / 1e3
    parts = [
        f"{100 * rate * 1e9 / roofs[of][precision]:.0f}% of {roofs[of][precision] / 1e9:,.0f} ({label})"
        for of, label in (("onednn", "oneDNN's product"), ("ours", "our product"), ("registers", "registers"))
    ]
    return Row(
        f"{sitting.case}, N = {sitting.rows}: {name}: reached",
        rate,
        "Gop/s",
        note=f"{', '.join(parts)}; masked events count",
    )


def engines(sitting: Sitting) -> Iterator[Row]:
    """Yield every peer with its answers, its time to compile and its size."""
    for name in sorted(sitting.seconds, key=sitting.micro):
        found = sitting.build["peers"][name]
        yield Row(
            f"{sitting.case}, N = {sitting.rows}: {name}", sitting.micro(name), "µs per candidate",
            equal=sitting.equal(name),
            note=f"logits within {max(found['worst'], sitting.worst[name]):.1e}; AUC {found['auc']:+.1e}, mean "
            f"{100 * found['calibration']:+.3f}% ({100 * found['calibration_shifted']:+.3f}% shifted), "
            f"τ {found['kendall']:.4f}; gates: {sitting.gates(name)}; prepared in "
            f"{found['seconds']:.1f} s, {found['bytes'] / 1e6:.1f} MB",
        )  # fmt: skip


def algebra(case: str, build: dict[str, Any]) -> Iterator[Row]:
    """Yield the operations and the bytes that staging saves."""
    written, pair = (each["products"] + each["others"] for each in (build["written"], build["stages"]["pair"]))
    saved = {"operations": (written, pair), "bytes of inputs": tuple(build["read"])}
    for name, (before, after) in saved.items():
        yield Row(
            f"{case}: {name}, per candidate", after, "", before, before / after, True,
            f"peer: as written; logits differ by {build['worst']:.1e}",
        )  # fmt: skip


def isas(best: Sitting, lesser: Sitting) -> Iterator[Row]:
    """Yield our kernels on a lesser instruction set against the machine's best."""
    for name in lesser.seconds:
        yield Row(
            f"{best.case}, N = {best.rows}: {name} on {lesser.isa}", lesser.micro(name), "µs per candidate",
            best.micro(name), best.micro(name) / lesser.micro(name), lesser.equal(name),
            f"peer: on {best.isa}, another sitting; logits within {lesser.worst[name]:.1e}",
        )  # fmt: skip


def table(runs: Path, cases: list[str]) -> None:
    """Write what was measured: the judged rows as ``compiler``, every engine as ``compiler_engines``."""
    roofs = json.loads((runs / "roofs.json").read_text())
    rows: list[Row] = []
    every: list[Row] = []
    for case in cases:
        measured = sorted(int(file.name.split(".")[-3]) for file in runs.glob(f"{case}.*.best.json"))
        if measured:
            rows += algebra(case, json.loads((runs / f"{case}.build.json").read_text()))
        for count in measured:
            sitting = Sitting(runs, case, count)
            rows += judged(sitting)
            if count == JUDGED:
                rows += columns(sitting, roofs)
                every += engines(sitting)
            for file in sorted(runs.glob(f"{case}.{count}.*.json")):
                lesser = Sitting(runs, case, count, file.name.split(".")[-2])
                if lesser.isa != sitting.isa and lesser.cpu == sitting.cpu:
                    every += isas(sitting, lesser)
    write("compiler", rows, roofs=roofs)
    write("compiler_engines", every)


def amx_table(runs: Path, cases: list[str]) -> None:
    """Write our kernels on tile registers against those on the same processor's vectors, as ``compiler_amx``."""
    rows: list[Row] = []
    for case in cases:
        registers, vectors = (Sitting(runs, case, JUDGED, isa) for isa in ("amx", "avx512_bf16"))
        assert registers.cpu == vectors.cpu, "sittings are of two processors"
        for name in registers.seconds:
            rows.append(
                Row(
                    f"{case}, N = {JUDGED}: {name} on amx", registers.micro(name), "µs per candidate",
                    vectors.micro(name), vectors.micro(name) / registers.micro(name),
                    registers.equal(name) and vectors.equal(name),
                    f"peer: on avx512_bf16, next sitting; logits within {registers.worst[name]:.1e}",
                )
            )  # fmt: skip
    write("compiler_amx", rows, arguments="--amx")
