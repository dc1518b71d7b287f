"""The course of a call without any input or output: send, judge, wait, send again. Both clients drive it."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from bowerbird.client.call import Call, Reply
from bowerbird.client.problems import error_of, unreachable
from bowerbird.client.retries import Retries, RetryBudget
from bowerbird.errors import BowerbirdError, DeadlineError

Answer = TypeVar("Answer")
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSED = 429
_PASSING = (429, 502, 503)


@dataclass(frozen=True)
class Send:
    """A step: send the request, with ``seconds`` left for the whole answer."""

    seconds: float


@dataclass(frozen=True)
class Wait:
    """A step: wait."""

    seconds: float


Outcome = Reply | httpx.RequestError | None
"""What a step led to; nothing for a wait."""
Steps = Generator[Send | Wait, Outcome, Answer]


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed; whether it may be over soon, and whether the server has not begun with the request."""

    error: BowerbirdError
    passing: bool = False
    unsent: bool = False
    retry_after: float = 0.0


def exchange(call: Call[Answer], address: str, seconds: float, retries: Retries, budget: RetryBudget) -> Steps[Answer]:
    """Yield the steps of a call and return its answer.

    Raises the server's error, UnavailableError where it gave none, DeadlineError after ``seconds``.
    """
    until = time.monotonic() + seconds
    budget.earn()
    for attempt in range(1, retries.attempts + 1):
        left = until - time.monotonic()
        if left <= 0:
            break
        outcome = yield Send(left)
        if isinstance(outcome, Reply) and outcome.status < 400:
            return call.decode(outcome)
        failure = _failure(outcome, address, seconds)
        wait = retries.wait_before(attempt, failure.retry_after)
        worthwhile = attempt < retries.attempts and wait < until - time.monotonic()
        if not (worthwhile and _may_repeat(call, failure) and budget.spend()):
            raise failure.error
        yield Wait(wait)
    raise _too_late(address, seconds)


def _may_repeat(call: Call[Answer], failure: _Failure) -> bool:
    if call.repeat == "never" or not failure.passing:
        return False
    return call.repeat == "safe" or failure.unsent


def _failure(outcome: Outcome, address: str, seconds: float) -> _Failure:
    if isinstance(outcome, Reply):
        passing, unsent = outcome.status in _PASSING, outcome.status == _REFUSED
        return _Failure(error_of(outcome), passing, unsent, _retry_after(outcome))
    assert outcome is not None
    if isinstance(outcome, _UNSENT):
        return _Failure(unreachable(address, outcome), passing=True, unsent=True)
    if isinstance(outcome, httpx.TimeoutException):
        return _Failure(_too_late(address, seconds))
    return _Failure(unreachable(address, outcome), passing=True)


def _retry_after(reply: Reply) -> float:
    """Return the header's seconds (RFC 9110: a number, or a date); 0 without one that can be read."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)


def _too_late(address: str, seconds: float) -> DeadlineError:
    return DeadlineError(
        f"{address} did not answer within {seconds:g} s.", "Give it more time (`timeout`), or ask for less."
    )
