"""Why a slate is as it is: recall, filters, scores and moves of every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bowerbird.pipeline.candidates import Candidates
from bowerbird.recall.items import Id
from bowerbird.recall.popular import Ranked
from bowerbird.serving.ranker import Scored


class Trace:
    """Collects what a pipeline did; ``to_json`` is what ``?trace=true`` returns."""

    def __init__(self) -> None:
        self._recalled: dict[str, int] = {}
        self._dropped: list[dict[str, Any]] = []
        self._ranked: list[dict[str, Any]] = []
        self._moved: list[dict[str, Any]] = []

    def recalled(self, channels: dict[str, Ranked]) -> None:
        """Note how many items each channel brought."""
        self._recalled = {name: len(ranked.keys) for name, ranked in channels.items()}

    def dropped(self, items: Sequence[Id], reason: str) -> None:
        """Note the items that a filter dropped."""
        self._dropped += [{"item": item, "filter": reason} for item in items]

    def ranked(self, candidates: Candidates, scored: Scored, order: Sequence[int]) -> None:
        """Note every candidate's channels and scores, best first."""
        for rank, position in enumerate(order):
            self._ranked.append(
                {
                    "item": scored.question.candidates[position],
                    "rank": rank,
                    "channels": candidates.channels[position],
                    "score": float(scored.ranking[position]),
                    "scores": {task: float(values[position]) for task, values in scored.scores.items()},
                }
            )

    def moved(self, scored: Scored, order: Sequence[int], shown: Sequence[int], skipped: Sequence[int]) -> None:
        """Note where diversity changed an item's place; None: not shown."""
        before = {position: rank for rank, position in enumerate(order)}
        changes = [(before[position], place, position) for place, position in enumerate(shown)]
        changes += [(before[position], None, position) for position in skipped]  # type: ignore[misc]
        self._moved = [
            {"item": scored.question.candidates[position], "from": rank, "to": place, "by": "diversity"}
            for rank, place, position in changes
            if rank != place
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the trace as plain data."""
        return {
            "recalled": self._recalled,
            "dropped": self._dropped,
            "ranked": self._ranked,
            "moved": self._moved,
        }
