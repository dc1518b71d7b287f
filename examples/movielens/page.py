"""The demo's page: everything in one file, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from charts import Picture
from judge import Judgement
from people import Person, Recommended
from player import Played
from prepare import TERMS

_TEMPLATE = Path(__file__).with_name("page.html")
_CHANNELS = {"popular": "popular these weeks", "co_visitation": "liked by those who liked what you like"}


@dataclass(frozen=True)
class Findings:
    """What the page tells; ``served``, ``deep`` and ``average`` name contestants of the judgement."""

    seconds: Sequence[tuple[str, float]]
    history: int
    judgement: Judgement
    played: Played
    swapped: int
    refused: str
    report: dict[str, Any]
    people: Sequence[Person]
    recommend_seconds: Sequence[float]
    served: str
    deep: str
    average: str
    pictures: dict[str, Picture]
    project: Path


def write_page(file: Path, findings: Findings) -> Path:
    """Write the page and return its path."""
    judgement, parity = findings.judgement, findings.report["parity"]
    served, average = judgement.of(findings.served), judgement.of(findings.average)
    values = {
        "history": f"{findings.history:,}",
        "live": f"{len(findings.played.predictions):,}",
        "auc": f"{served.auc:.3f}",
        "pairs": f"{served.auc * 100:.0f}",
        "average_pairs": f"{average.auc * 100:.0f}",
        "pcoc": f"{served.pcoc:.2f}",
        "parity": "100%" if parity["equal_values"] == parity["values"] else _parity(parity),
        "parity_values": f"{parity['equal_values']:,} of {parity['values']:,}",
        "parity_scores": f"{parity['scores_within_tolerance']:,} of {parity['scores']:,}",
        "p50": f"{_percentile(findings.played.score_seconds, 50):.1f}",
        "versions": _versions(findings),
        "people": "\n".join(_person(person) for person in findings.people),
        "questions": _questions(judgement.questions),
        "latency": _latency(findings),
        "steps": _steps(findings.seconds),
        "contestants": _contestants(judgement),
        "project": escape(str(findings.project)),
        "terms": escape(TERMS).replace("\n", " "),
        "made": datetime.now(UTC).strftime("%-d %B %Y"),
    }
    values |= {f"picture_{name}": _picture(picture, name) for name, picture in findings.pictures.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    return file


def _parity(parity: dict[str, Any]) -> str:
    return f"{100 * parity['equal_values'] / max(1, parity['values']):.3f}%"


_ALTERNATIVES = {
    "auc": "Bars: AUC of every contestant on the live ratings",
    "calibration": "Curves: predicted against observed share of likes",
    "running": "Lines: AUC of everything played so far, over the days",
}


def _picture(picture: Picture, name: str) -> str:
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{picture["dark"]}">'
        f'<img src="{picture["light"]}" alt="{_ALTERNATIVES[name]}"></picture>'
    )


def _versions(findings: Findings) -> str:
    """Say what each version served, and how the second one came to be."""
    rows = {row["version"]: row for row in findings.report["live"]["versions"] if row["metrics"] is not None}
    parts = [
        f"version {number} answered for {row['exposures']:,} ratings (live AUC {row['metrics']['auc']:.3f})"
        for number, row in sorted(rows.items())
    ]
    told = f"On the whole, {' and '.join(parts)}."
    if findings.refused:
        return f"{told} A second version was trained on the new ratings, but a gate refused it, so the first stayed."
    if findings.swapped:
        day = _day(findings.swapped)
        return f"{told} The second took over on {day}, between two requests. Their days differ: that is no contest."
    return told


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B")


def _person(person: Person) -> str:
    history = "\n".join(
        f'<li><span class="stars" title="{stars} of 5">{"★" * stars}<i>{"★" * (5 - stars)}</i></span>'
        f'<span class="title">{escape(movie.title)}</span> <small>{escape(movie.genres)}</small></li>'
        for movie, stars in person.history
    )
    fresh = "\n".join(_recommended(one) for one in person.slate)
    favourite = f", most fond of {escape(person.favourite)}" if person.favourite else ""
    return f"""<article class="person">
<header><h3>User {person.user}</h3><p>{escape(person.description)}; {person.ratings} ratings{favourite}</p></header>
<div class="columns"><section><h4>Rated last</h4><ol class="history">{history}</ol></section>
<section><h4>Recommended now</h4><ol class="slate">{fresh}</ol></section></div></article>"""


def _recommended(one: Recommended) -> str:
    movie = one.movie
    why = " and ".join(dict.fromkeys(_CHANNELS.get(name.rsplit("_", 1)[0], name) for name in one.channels))
    year = f" <small>{movie.year}</small>" if movie.year else ""
    return (
        f'<li title="{escape(why)}"><span class="chance" style="--share:{one.score:.3f}">{one.score:.0%}</span>'
        f'<span class="title">{escape(movie.title)}{year}</span> <small>{escape(movie.genres)}</small></li>'
    )


def _questions(questions: Iterable[tuple[str, float]]) -> str:
    pairs = list(questions)
    most = max(max(worth for _, worth in pairs), 1e-9)
    return "\n".join(
        f'<li><span>{escape(question)}</span><b style="--share:{max(0.0, worth) / most:.3f}"></b>'
        f"<em>{max(0.0, worth):.3f}</em></li>"
        for question, worth in pairs
    )


def _contestants(judgement: Judgement) -> str:
    return "\n".join(
        f"<tr><td>{escape(one.name)}</td><td>{one.auc:.4f}</td><td>{one.low:.3f} – {one.high:.3f}</td>"
        f"<td>{one.log_loss:.4f}</td><td>{one.pcoc:.3f}</td></tr>"
        for one in reversed(judgement.contestants)
    )


def _latency(findings: Findings) -> str:
    rows = [
        ("score about 21 movies", findings.played.score_seconds),
        ("store an exposure with its outcome, fsynced", findings.played.event_seconds),
        ("recommend 10 of up to 400 recalled movies", findings.recommend_seconds),
    ]
    return "\n".join(
        f"<tr><td>{what}</td><td>{len(seconds):,}</td>"
        + "".join(f"<td>{_percentile(seconds, level):.1f}</td>" for level in (50, 90, 99))
        + "</tr>"
        for what, seconds in rows
    )


def _percentile(seconds: Sequence[float], level: float) -> float:
    """Return a percentile in milliseconds."""
    return float(np.percentile(np.array(seconds) * 1000, level))


def _steps(seconds: Iterable[tuple[str, float]]) -> str:
    return "\n".join(f"<li><span>{escape(name)}</span><em>{taken:.1f} s</em></li>" for name, taken in seconds)
