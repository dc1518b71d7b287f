"""A few users to look at: what they liked, and what the server recommends to them now."""

from __future__ import annotations

import csv
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from player import SCENE, Rating

from bowerbird.client import Client
from bowerbird.errors import InputError

_LIKES = 40
"""Users with about as many likes are shown: enough to have a taste, few enough to have much left to see."""
_SHARE = 5
"""A favourite genre has at least so many likes."""


@dataclass(frozen=True)
class Movie:
    """What is shown of a movie."""

    title: str
    year: str
    genres: str
    first_genre: str


@dataclass(frozen=True)
class Recommended:
    """A movie of a slate, the probability of a like, and the channels that proposed it."""

    movie: Movie
    score: float
    channels: list[str]


@dataclass(frozen=True)
class Person:
    """A user: a description, the latest liked and disliked movies (with stars), and a fresh slate."""

    user: int
    description: str
    ratings: int
    favourite: str
    history: list[tuple[Movie, int]]
    slate: list[Recommended]


class Library:
    """The movies and users of the prepared files."""

    def __init__(self, raw: Path) -> None:
        self.movies = {int(row["movie"]): _movie(row) for row in _rows(raw / "movies.csv")}
        self._users = {int(row["user"]): row for row in _rows(raw / "users.csv")}

    def describe(self, user: int) -> str:
        """Return who a user is."""
        row = self._users[user]
        gender = {"M": "man", "F": "woman"}.get(row["gender"], "person")
        work = "" if row["occupation"] in ("none", "other") else f", {row['occupation']}"
        return f"{gender}, {row['age']}{work}"


def choose_people(library: Library, ratings: Sequence[Rating], lately: set[int], count: int = 3) -> list[int]:
    """Return users who rated lately and whose favourite genres differ, those with about ``_LIKES`` likes first."""
    liked = _liked_genres(library, ratings)
    able = sorted(lately & liked.keys(), key=lambda user: (abs(liked[user].total() - _LIKES), user))
    chosen: dict[str, int] = {}
    for user in able:
        chosen.setdefault(_favourite(liked[user], sum(liked.values(), Counter())), user)
    return [user for genre, user in chosen.items() if genre][:count]


def meet(client: Client, library: Library, user: int, ratings: Sequence[Rating], shown: int = 10) -> Person:
    """Ask the server what it recommends to a user, beside what they rated last."""
    own = [rating for rating in ratings if rating.user == user]
    liked = _liked_genres(library, ratings)
    slate = client.recommend(SCENE, user)
    return Person(
        user,
        library.describe(user),
        len(own),
        _favourite(liked[user], sum(liked.values(), Counter())),
        [(library.movies[rating.movie], rating.stars) for rating in reversed(own[-shown:])],
        [Recommended(library.movies[int(one.item)], one.score, one.channels) for one in slate.items],
    )


def time_recommendations(client: Client, users: Sequence[int], requests: int = 100) -> list[float]:
    """Return the seconds that recommendations for random users take."""
    if not users:
        raise InputError("There is no user to recommend to.")
    chosen = random.Random(0)
    seconds = []
    for _ in range(requests):
        started = time.perf_counter()
        client.recommend(SCENE, chosen.choice(users))
        seconds.append(time.perf_counter() - started)
    return seconds


def _liked_genres(library: Library, ratings: Sequence[Rating]) -> dict[int, Counter[str]]:
    liked: dict[int, Counter[str]] = defaultdict(Counter)
    for rating in ratings:
        if rating.liked:
            liked[rating.user][library.movies[rating.movie].first_genre] += 1
    return liked


def _favourite(own: Counter[str], everyone: Counter[str]) -> str:
    """Return the genre that a user likes most compared with everyone; empty where there is too little to tell."""
    able = [genre for genre in own if genre and own[genre] >= _SHARE]
    return max(able, key=lambda genre: (own[genre] / everyone[genre], genre), default="")


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _movie(row: dict[str, str]) -> Movie:
    genres = ", ".join(genre for genre in (row["genre"], row["genre2"]) if genre)
    return Movie(row["title"], row["year"], genres, row["genre"])
