"""What a run showed: rates, errors by kind, percentiles, and whether the generator kept up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.loadtest.connection import CONNECT, DISCONNECT, MALFORMED, TIMEOUT
from bowerbird.loadtest.generator import Samples

_KINDS = {DISCONNECT: "disconnected", MALFORMED: "malformed answer", CONNECT: "no connection", TIMEOUT: "timeout"}
_SPECTRUM = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1.0)
_BUSY = 0.9
_LAG_SHARE = 0.1
_LAG_MS = 0.5


class Measured(msgspec.Struct, frozen=True):
    """One run after its warm-up; times are milliseconds, of answers with a status below 400.

    Open loop: ``offered`` requests a second were meant, and a latency counts from when one was meant to be sent.
    Closed loop: ``offered`` is 0, and a latency counts from when it was sent. ``answered`` and ``goodput`` are
    successful answers a second, the latter those within the deadline. ``said`` is what the first answer of each kind of
    error said. ``lag`` is the 99th percentile of how long the generator itself held requests back, ``busy`` the share
    of the time that it computed; ``bottleneck`` says where these spoil the figures. ``waited`` counts requests that
    found every connection taken, which their latency shows.
    """

    loop: Literal["open", "closed"]
    offered: float
    connections: int
    seconds: float
    requests: int
    answered: float
    goodput: float
    p50: float
    p90: float
    p99: float
    p999: float
    greatest: float
    mean: float
    errors: dict[str, int]
    said: dict[str, str]
    waited: int
    lag: float
    busy: float
    bottleneck: str
    spectrum: list[tuple[float, float]]


def measured(
    samples: Sequence[Samples],
    loop: Literal["open", "closed"],
    offered: float,
    connections: int,
    window: tuple[float, float],
    deadline: float,
) -> Measured:
    """Return what the samples of one or several generators show of requests meant in ``window`` (seconds)."""
    begin, end = window
    intended, ready, sent, done = (
        np.concatenate([getattr(each, name) for each in samples]) for name in ("intended", "ready", "sent", "done")
    )
    outcome = np.concatenate([each.outcome for each in samples])
    meant = (intended >= begin) & (intended < end)
    good = (outcome >= 200) & (outcome < 400)
    latency = np.sort((done - intended)[meant & good]) * 1e3
    lag = float(np.percentile((sent - ready)[meant] * 1e3, 99)) if meant.any() else 0.0
    busy = max(each.busy / each.seconds for each in samples)
    errors = _errors(outcome[meant & ~good])
    seconds = end - begin
    p50, p90, p99, p999 = (_at(latency, share) for share in (0.5, 0.9, 0.99, 0.999))
    return Measured(
        loop=loop,
        offered=offered,
        connections=connections,
        seconds=seconds,
        requests=int(meant.sum()),
        answered=float((good & (done >= begin) & (done < end)).sum() / seconds),
        goodput=float((latency <= deadline * 1e3).sum() / seconds),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        greatest=_at(latency, 1.0),
        mean=float(latency.mean()) if len(latency) else float("nan"),
        errors=errors,
        said=_said(samples, errors),
        waited=int((ready > intended)[meant].sum()),
        lag=lag,
        busy=busy,
        bottleneck=_bottleneck(lag, p99, busy),
        spectrum=[(share, _at(latency, share)) for share in _SPECTRUM if share in (0.0, 1.0) or _known(latency, share)],
    )


def _at(latency: npt.NDArray[np.float64], share: float) -> float:
    """Return the least latency that ``share`` of all do not exceed; NaN without any."""
    if not len(latency):
        return float("nan")
    return float(latency[max(int(np.ceil(share * len(latency))) - 1, 0)])


def _known(latency: npt.NDArray[np.float64], share: float) -> bool:
    """Return whether at least one latency lies above ``share`` of all."""
    return (1.0 - share) * len(latency) >= 1.0


def _errors(outcomes: npt.NDArray[np.int64]) -> dict[str, int]:
    counts = Counter(outcomes.tolist())
    return {_kind(code): count for code, count in counts.most_common()}


def _said(samples: Sequence[Samples], kinds: Collection[str]) -> dict[str, str]:
    texts = {_kind(status): text for each in samples for status, text in each.said.items() if text}
    return {kind: text for kind, text in texts.items() if kind in kinds}


def _kind(outcome: int) -> str:
    return _KINDS.get(outcome, f"status {outcome}")


def _bottleneck(lag: float, p99: float, busy: float) -> str:
    if busy >= _BUSY:
        return f"the load generator computed {busy:.0%} of the time: use more --processes, or another machine"
    if lag > _LAG_MS and not lag <= _LAG_SHARE * p99:
        return f"the load generator held 1% of the requests back for {lag:.2f} ms or more: give it a core of its own"
    return ""
