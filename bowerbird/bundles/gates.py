"""What a version must pass before it is published."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from bowerbird.bundles.manifest import GateResult
from bowerbird.errors import GateError


class GateLimits(msgspec.Struct, frozen=True):
    """How much is allowed.

    ``auc_loss``: AUC may be this much below the live version's on the same samples; ``log_loss_ratio``: log
    loss may be this multiple of the live version's; ``pcoc``: the 95% interval of mean prediction over mean
    label must meet this range; ``parity``: probabilities of the published program may differ by this much
    from those of eager PyTorch.
    """

    auc_loss: float = 0.002
    log_loss_ratio: float = 1.005
    pcoc_low: float = 0.9
    pcoc_high: float = 1.1
    parity: float = 1e-5


def auc_gate(task: str, candidate: float, live: float, limits: GateLimits) -> GateResult:
    """Return whether AUC is not worse than the live version's."""
    least = live - limits.auc_loss
    return GateResult(
        f"auc.{task}", not candidate < least, _known(candidate), f"at least {least:.4f} (live {live:.4f})"
    )


def log_loss_gate(task: str, candidate: float, live: float, limits: GateLimits) -> GateResult:
    """Return whether log loss is not worse than the live version's."""
    most = live * limits.log_loss_ratio
    return GateResult(
        f"log_loss.{task}", not candidate > most, _known(candidate), f"at most {most:.4f} (live {live:.4f})"
    )


def calibration_gate(task: str, estimate: float, low: float, high: float, limits: GateLimits) -> GateResult:
    """Return whether calibration is right, given PCOC and its 95% interval; undefined passes with a note."""
    allowed = f"{limits.pcoc_low:g} to {limits.pcoc_high:g}"
    if math.isnan(estimate):
        return GateResult(f"pcoc.{task}", True, None, allowed, "no positive among the held-out samples")
    reached_low = estimate if math.isnan(high) else high
    reached_high = estimate if math.isnan(low) else low
    passed = reached_low >= limits.pcoc_low and reached_high <= limits.pcoc_high
    return GateResult(f"pcoc.{task}", passed, estimate, allowed, f"95% interval {low:.3f} to {high:.3f}")


def parity_gate(worst: float, limits: GateLimits) -> GateResult:
    """Return whether the published program scores as eager PyTorch does."""
    return GateResult("parity", worst <= limits.parity, _known(worst), f"at most {limits.parity:g}")


def shown(gate: GateResult) -> str:
    """Return what a gate measured, for people."""
    return "undefined" if gate.measured is None else f"{gate.measured:.6g}"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def check_gates(gates: Iterable[GateResult]) -> None:
    """Raise GateError that names every failed gate, by how much it failed, and the way round it."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        details = "; ".join(
            f"{gate.name} is {shown(gate)}, allowed {gate.allowed}" + (f" ({gate.note})" if gate.note else "")
            for gate in failed
        )
        raise GateError(
            f"The version did not pass its gates: {details}.",
            "Train a better one, or publish with --force (which is recorded).",
        )
