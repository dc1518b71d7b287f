"""Fetch MovieLens-100k and write it as clean CSV files: ``python prepare.py``.

The ratings come out of the PyPI wheel ``recbole==1.2.1``, which carries them as an example data set.
They belong to GroupLens, whose terms are printed; nothing of them is part of this repository.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import BowerbirdError, InputError, UnavailableError

REQUIREMENT = "recbole==1.2.1"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
LIVE_SINCE = 891_734_400
"""1998-04-05 00:00 UTC: later ratings are kept apart, to be played through the live server."""

TERMS = """\
MovieLens-100k was collected by the GroupLens Research Project at the University of Minnesota. It may be used
for research; not redistributed without permission; not used for commercial or revenue-bearing purposes without
permission from GroupLens; and without stating or implying their endorsement. Publications cite: F. M. Harper
and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5, 4, Article 19 (2015),
https://doi.org/10.1145/2827872. The terms in full: https://files.grouplens.org/datasets/movielens/ml-100k-README.txt"""

_INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
_ARTICLE = re.compile(r"^(?P<rest>[^()]+), (?P<article>The|A|An|Les|La|Le|L'|Il|El|Das|Der|Die)(?= \(|$)")
_YEAR = re.compile(r" \((?P<year>\d{4})\)$")
_AGES = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"))

Row = Sequence[object]


@dataclass(frozen=True)
class Prepared:
    """How much was written."""

    history: int
    live: int
    movies: int
    users: int


def main() -> None:
    """Parse the command line, prepare, and say what there is."""
    parser = argparse.ArgumentParser(description="Fetch MovieLens-100k and write clean CSV files.")
    parser.add_argument(
        "--wheel", type=Path, metavar="FILE", help=f"the wheel of {REQUIREMENT}, where it is here already"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "raw", metavar="FOLDER")
    arguments = parser.parse_args()
    print(TERMS, end="\n\n")
    try:
        made = prepare(arguments.out, arguments.wheel)
    except BowerbirdError as error:
        sys.exit(f"Error: {error.what}\n       {error.remedy}")
    print(f"{made.history:,} ratings of {made.movies:,} movies by {made.users:,} users in {arguments.out}")
    print(f"{made.live:,} later ratings, to be played live, in {arguments.out / 'live'}")


def prepare(out: Path, wheel: Path | None = None, sha256: str = SHA256) -> Prepared:
    """Write ``ratings.csv``, ``users.csv``, ``movies.csv`` and ``live/ratings.csv`` into ``out``.

    Without ``wheel`` it is downloaded by pip. Raises UnavailableError where that fails, InputError where
    the wheel is not the one whose contents are known.
    """
    if wheel is not None:
        return _convert(wheel, out, sha256)
    with tempfile.TemporaryDirectory() as folder:
        return _convert(_download(Path(folder)), out, sha256)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), REQUIREMENT], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise UnavailableError(
            f"pip cannot download {REQUIREMENT}: {reason[0]}.",
            f"Go online; or on another machine run `pip download --no-deps {REQUIREMENT}`, "
            "bring the file here and give it with --wheel FILE.",
        )
    return wheels[0]


def _convert(wheel: Path, out: Path, sha256: str) -> Prepared:
    if not wheel.is_file():
        raise InputError(f"{wheel} is not a file.", f"Give --wheel the wheel of {REQUIREMENT}.")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        raise InputError(
            f"{wheel.name} has the SHA-256 {found}, not {sha256}.",
            f"Get {REQUIREMENT} from https://pypi.org/project/recbole/1.2.1/#files: another file may hold other data.",
        )
    with zipfile.ZipFile(wheel) as archive:
        ratings = sorted(_ratings(_table(archive, "inter")), key=lambda row: (row[3], row[0], row[1]))
        movies = list(_movies(_table(archive, "item")))
        users = list(_users(_table(archive, "user")))
    history = [row for row in ratings if row[3] < LIVE_SINCE]
    live = ratings[len(history) :]
    columns = ("user", "movie", "rating", "timestamp")
    _write(out / "ratings.csv", columns, history)
    _write(out / "live" / "ratings.csv", columns, live)
    _write(out / "movies.csv", ("movie", "title", "year", "decade", "genre", "genre2"), movies)
    _write(out / "users.csv", ("user", "age", "age_group", "gender", "occupation", "zip"), users)
    return Prepared(len(history), len(live), len(movies), len(users))


def _table(archive: zipfile.ZipFile, name: str) -> Iterator[list[str]]:
    """Yield the rows below the header of a tab-separated UTF-8 file."""
    try:
        text = archive.read(f"{_INSIDE}.{name}").decode("utf-8")
    except KeyError as error:
        raise InputError(f"The wheel holds no {_INSIDE}.{name}.", f"Give the wheel of {REQUIREMENT}.") from error
    return (line.split("\t") for line in text.splitlines()[1:])


def _ratings(rows: Iterable[list[str]]) -> Iterator[tuple[int, int, int, int]]:
    for user, movie, rating, timestamp in rows:
        yield int(user), int(movie), int(float(rating)), int(float(timestamp))


def _movies(rows: Iterable[list[str]]) -> Iterator[Row]:
    for movie, raw_title, raw_year, classes in rows:
        title, year = _title_and_year(raw_title, raw_year)
        genres = [genre for genre in classes.split() if genre != "unknown"]
        decade = f"{year[:3]}0s" if year else ""
        yield int(movie), title, year, decade, *(*genres, "", "")[:2]


def _title_and_year(title: str, year: str) -> tuple[str, str]:
    """Return a title as people say it ("The Usual Suspects"), and the year or nothing."""
    inside = _YEAR.search(title)
    if not year.isdigit():
        year = inside["year"] if inside else ""
    title = _YEAR.sub("", title).replace("unkonwn", "unknown")
    return _ARTICLE.sub(r"\g<article> \g<rest>", title).replace("L' ", "L'"), year


def _users(rows: Iterable[list[str]]) -> Iterator[Row]:
    for user, age, gender, occupation, code in rows:
        group = next((name for limit, name in _AGES if int(age) < limit), "55 and over")
        yield int(user), int(age), group, gender, occupation, code


def _write(file: Path, header: Row, rows: Iterable[Row]) -> None:
    """Write a CSV file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(file)


if __name__ == "__main__":
    main()
