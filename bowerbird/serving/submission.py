"""Events that wait to be written, and how whoever sent them hears what became of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from bowerbird.errors import BowerbirdError

OutcomeStatus = Literal["accepted", "duplicate", "rejected"]
AnswerFuture = Future[list["Outcome"]] | asyncio.Future[list["Outcome"]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event; ``reason`` says why it was rejected, or what is remarkable about an accepted one."""

    status: OutcomeStatus
    id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """Events of one sender; ``answer`` is a future of a thread, or of an event loop."""

    events: Sequence[Mapping[str, Any]]
    answer: AnswerFuture


Answer = tuple[Submission, "list[Outcome] | BowerbirdError"]


def answer_all(answers: Sequence[Answer]) -> None:
    """Answer submissions; an event loop is woken once, however many of them are its own."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Answer]] = defaultdict(list)
    for each in answers:
        future = each[0].answer
        if isinstance(future, asyncio.Future):
            by_loop[future.get_loop()].append(each)
        else:
            _settle([each])
    for loop, own in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(_settle, own)


def _settle(answers: Sequence[Answer]) -> None:
    for submission, result in answers:
        if submission.answer.done():
            continue
        if isinstance(result, BowerbirdError):
            submission.answer.set_exception(result)
        else:
            submission.answer.set_result(result)
