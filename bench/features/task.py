"""What one engine is asked to do, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.features.answers import Answers
from bench.features.log import LogShape


@dataclass(frozen=True)
class Task:
    """Features of every exposure of a log with so many threads.

    ``take`` gets the answers, in parts; without it they are dropped as they come, as they are where time is measured.
    ``ordered`` asks for the log's order, which peers do not keep by themselves.
    """

    shape: LogShape
    features: list[str]
    threads: int
    take: Callable[[Answers], None] | None = None
    ordered: bool = False


@dataclass(frozen=True)
class Outcome:
    """Seconds from opening the Parquet files to the last answer; ``kernel`` without reading and encoding them.

    ``processor`` are the seconds that all threads computed.
    """

    seconds: float
    kernel: float | None = None
    processor: float = 0.0
