"""Plays ratings through the live server in time order: asked before told, so that its AUC is honest.

Ratings of one user in one second are asked in one request: none of them may know another's outcome,
just as in training, where records of the same instant do not see each other.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bowerbird.client import Client
from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import InputError
from bowerbird.serving.clock import FileTime

SCENE = "home"
LABEL = "like"
_OTHERS = 20
"""How many movies that the user did not rate then are scored beside those that they did."""


@dataclass(frozen=True)
class Rating:
    """A user's stars for a movie, and when (seconds since 1970)."""

    user: int
    movie: int
    stars: int
    time: int

    @property
    def liked(self) -> bool:
        """Whether this is a like."""
        return self.stars >= 4

    @property
    def exposure_id(self) -> str:
        """The id of the exposure event that this rating makes."""
        return f"{self.user}-{self.movie}"


@dataclass(frozen=True)
class Prediction:
    """A rating, what the server had said of it, and the version that said so."""

    rating: Rating
    score: float
    version: int


@dataclass
class Played:
    """All predictions in time order, and how long (seconds) each request took."""

    predictions: list[Prediction] = field(default_factory=list)
    score_seconds: list[float] = field(default_factory=list)
    event_seconds: list[float] = field(default_factory=list)


def read_ratings(file: Path) -> list[Rating]:
    """Return the ratings of a CSV file in time order."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [
            Rating(*(int(row[name]) for name in ("user", "movie", "rating", "timestamp")))
            for row in csv.DictReader(stream)
        ]
    return sorted(rows, key=lambda rating: (rating.time, rating.user, rating.movie))


class Player:
    """Sends ratings to a server, whose clock it moves to each rating's time."""

    def __init__(self, client: Client, clock: FileTime, movies: Sequence[int], seed: int = 0) -> None:
        self._client = client
        self._clock = clock
        self._movies = movies
        self._random = random.Random(seed)
        self.played = Played()

    def play(self, ratings: Sequence[Rating], advance: Callable[[int], None] = lambda count: None) -> None:
        """Ask for, then report, each rating; ``advance`` is called with how many were played."""
        for moment in _moments(ratings):
            self._clock.set(moment[0].time * 1_000_000)
            slate_id = self._ask(moment)
            self._tell(moment, slate_id)
            advance(len(moment))

    def _ask(self, moment: Sequence[Rating]) -> str:
        rated = [rating.movie for rating in moment]
        candidates = rated + [movie for movie in self._random.sample(self._movies, _OTHERS) if movie not in rated]
        started = time.perf_counter()
        answer = self._client.score(SCENE, moment[0].user, candidates)
        self.played.score_seconds.append(time.perf_counter() - started)
        self.played.predictions += [
            Prediction(rating, score, answer.model.version)
            for rating, score in zip(moment, answer.scores[LABEL], strict=False)
        ]
        return answer.slate_id

    def _tell(self, moment: Sequence[Rating], slate_id: str) -> None:
        events = [event for rating in moment for event in _events(rating, slate_id)]
        started = time.perf_counter()
        receipt = self._client.send_events(events)
        self.played.event_seconds.append(time.perf_counter() - started)
        if receipt.accepted != len(events):
            reasons = {outcome.reason or outcome.status for outcome in receipt.events}
            raise InputError(f"The server took {receipt.accepted} of {len(events)} events: {reasons}.")


def _moments(ratings: Sequence[Rating]) -> Iterator[list[Rating]]:
    """Yield the ratings of one user in one second."""
    for _, moment in itertools.groupby(ratings, key=lambda rating: (rating.time, rating.user)):
        yield list(moment)


def _events(rating: Rating, slate_id: str) -> Iterator[dict[str, object]]:
    common = {"time": rating.time * 1_000_000, "user": rating.user, "movie": rating.movie, "slate_id": slate_id}
    yield {"type": "exposure", "id": rating.exposure_id, **common}
    yield {"type": "rated", "id": rating.exposure_id, "rating": rating.stars, **common}
    if rating.liked:
        yield {"type": "like", "id": rating.exposure_id, **common}


def main() -> None:
    """Play ratings of ``raw/live`` through the running server of this folder's project."""
    parser = argparse.ArgumentParser(description="Play the live ratings through the running server.")
    parser.add_argument("--key", default="", help="an API key that may read and write")
    parser.add_argument("--address", default="http://127.0.0.1:8765")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N ratings")
    parser.add_argument("--count", type=int, default=2800, metavar="N", help="how many to play (default: 2800)")
    given = parser.parse_args()
    folder = Path(__file__).parent
    clock = load_workspace(folder).clock_file
    assert clock is not None, "bowerbird.toml of this example names a clock"
    ratings = read_ratings(folder / "raw" / "live" / "ratings.csv")[given.skip : given.skip + given.count]
    with Client(given.address, given.key) as client:
        player = Player(client, FileTime(clock), sorted({rating.movie for rating in ratings}))
        player.play(ratings)
    print(f"{len(ratings):,} ratings asked, then told")


if __name__ == "__main__":
    main()
