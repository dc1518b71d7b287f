"""A first schema of somebody's log, guessed from its columns, with the reasons."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field
from pathlib import Path

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.records import Timestamp
from bowerbird.errors import InputError
from bowerbird.log.scaffolding.profile import Profile, profile_file

_TIME = re.compile(r"time|stamp|date|(^|_)(ts|at|when|dt)($|_)", re.I)
_USER = re.compile(r"user|customer|visitor|member|account|buyer|shopper|viewer|reader|uid|client", re.I)
_ITEM = re.compile(
    r"item|video|product|movie|article|sku|content|song|track|book|news|post|doc|listing|asin|(^|_)ads?($|_)|pid|iid",
    re.I,
)
_EVENT_ID = re.compile(r"event_?id|impression_?id|request_?id|log_?id|uuid|^id$", re.I)
_CONTEXT_FLAG = re.compile(r"rand|mobile|premium|member|weekend|holiday|subscri|new_?user|logged|test|control", re.I)
_CLOCK = re.compile(r"^(date|day|hour|minute|month|year|week|weekday|hourmin|dow|p_date|dt)$", re.I)
_RATING = re.compile(r"rating|stars|score", re.I)
_LATER = re.compile(r"stay|dwell|play|watch|spent|elapsed|revenue|amount|paid|feedback|reason", re.I)
_RESERVED = {"type", "id", "time", "slate_id", "position", "project", "bb", "features", "exposure", "labels"}
_CATEGORY_LIMIT = 1_000


@dataclass(frozen=True)
class NamedColumn:
    """A raw column, the name that it is declared by, and its type."""

    name: str
    column: str
    kind: ColumnType


@dataclass(frozen=True)
class Outcome:
    """An action that a row implies: ``threshold`` None means that the column is truthy, else column >= it."""

    name: str
    column: str
    rate: float
    threshold: float | None = None


@dataclass
class Guess:
    """A schema: what each column is taken for; ``explanations`` say why, a line each."""

    time: Timestamp
    user: NamedColumn
    item: NamedColumn
    event_id: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    context: list[NamedColumn] = field(default_factory=list)
    user_attributes: list[NamedColumn] = field(default_factory=list)
    item_attributes: list[NamedColumn] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)


def infer(path: Path) -> Guess:
    """Return a first schema of a Parquet, CSV or JSON-lines log whose rows are items shown to users.

    Raises InputError where no column looks like the time, the user or the item.
    """
    every = profile_file(path)
    profiles = [profile for profile in every if not profile.is_nested]
    names = _Names()
    time = _find_time(profiles, path)
    rest = [profile for profile in profiles if profile.name != time.column]
    user = _find_entity(rest, _USER, "user", path)
    item = _find_entity([each for each in rest if each is not user], _ITEM, "item", path)
    rest = [each for each in rest if each is not user and each is not item]
    guess = Guess(time, names.entity(user, "user"), names.entity(item, "item"))
    guess.explanations += [
        f"{time.column}: the time, {_unit_words(time)}",
        f"{user.name}: the user ({user.distinct:,} of them), by its name",
        f"{item.name}: the item ({item.distinct:,} of them), by its name",
    ]
    for profile in rest:
        guess.explanations.append(f"{profile.name}: {_place(profile, guess, user, item, names)}")
    for profile in every:
        if profile.is_nested:
            guess.explanations.append(f"{profile.name}: left out: a list (a table may declare it as a VECTOR)")
    if not guess.outcomes:
        guess.explanations.append("No column is an outcome (0/1 or a rating): declare an event to learn from.")
    return guess


class _Names:
    """Declared names: identifiers, each used once."""

    def __init__(self) -> None:
        self._used = set(_RESERVED)

    def entity(self, profile: Profile, fallback: str) -> NamedColumn:
        stem = re.sub(r"_?id$|^id_?", "", profile.name, flags=re.I) or fallback
        return NamedColumn(self.new(stem if stem.lower() not in ("u", "i") else fallback), profile.name, profile.kind)

    def column(self, profile: Profile, kind: ColumnType) -> NamedColumn:
        return NamedColumn(self.new(profile.name), profile.name, kind)

    def new(self, wish: str) -> str:
        name = re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_").lower() or "column"
        name = f"c_{name}" if name[0].isdigit() else name
        while name in self._used or keyword.iskeyword(name):
            name += "_value"
        self._used.add(name)
        return name


def _unit_words(time: Timestamp) -> str:
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    return f"{words[time.unit]} since 1970" if time.unit in words else "ISO 8601 text, read as UTC"


def _find_time(profiles: list[Profile], path: Path) -> Timestamp:
    hinted = [profile for profile in profiles if _TIME.search(profile.name)]
    texts = [profile for profile in profiles if profile.kind is ColumnType.TEXT and profile not in hinted]
    by_detail = sorted([*hinted, *texts], key=lambda profile: (profile in texts, -profile.distinct))
    for profile in by_detail:
        spec = profile.time()
        if spec is not None:
            return spec
    raise _not_found("time", "a time", profiles, path)


def _find_entity(profiles: list[Profile], pattern: re.Pattern[str], fallback: str, path: Path) -> Profile:
    exact = re.compile(rf"^{fallback}(_?id)?$", re.I)
    named = [
        each
        for each in profiles
        if pattern.search(each.name)
        and (exact.match(each.name) or not each.is_flag)
        and each.kind in (ColumnType.INTEGER, ColumnType.TEXT)
    ]
    if not named:
        raise _not_found(fallback, f"the {fallback}", profiles, path)
    return min(
        named, key=lambda each: (exact.match(each.name) is None, not each.name.lower().endswith("id"), -each.distinct)
    )


def _not_found(what: str, words: str, profiles: list[Profile], path: Path) -> InputError:
    return InputError(
        f"No column of {path} looks like {words}: it has {', '.join(profile.name for profile in profiles)}.",
        f"Rename the {what} column (for example to {what!r}), or run `bowerbird init` without --from and write "
        "project.py by hand.",
    )


def _place(profile: Profile, guess: Guess, user: Profile, item: Profile, names: _Names) -> str:
    """Put a column where it seems to belong, and return why."""
    if profile.is_constant:
        return "left out: it has one value in all rows"
    if _CLOCK.match(profile.name):
        return "left out: it repeats the time"
    if profile.distinct == profile.rows and not profile.missing and _EVENT_ID.search(profile.name):
        guess.event_id = profile.name
        return "the event id: unique in every row"
    if profile.is_flag and not _CONTEXT_FLAG.search(profile.name):
        rate = profile.share_true
        guess.outcomes.append(Outcome(names.new(_event_name(profile.name)), profile.name, rate))
        return f"an outcome, since it is 0 or 1 (1 in {rate:.1%}): an event that follows the exposure"
    if _RATING.search(profile.name) and profile.kind in (ColumnType.INTEGER, ColumnType.NUMBER):
        return _place_rating(profile, guess, names)
    return _place_value(profile, guess, user, item, names)


def _event_name(column: str) -> str:
    return re.sub(r"^(is|has|did|was)_", "", column, flags=re.I)


def _place_rating(profile: Profile, guess: Guess, names: _Names) -> str:
    highest = max(float(value) for value in profile.values.drop_null().to_pylist())
    threshold = round(highest * 0.8, 2)
    values = [float(value) for value in profile.values.drop_null().to_pylist()]
    rate = sum(value >= threshold for value in values) / profile.rows
    guess.outcomes.append(Outcome(names.new("liked"), profile.name, rate, threshold))
    return f"a rating, so {threshold:g} and more is the outcome `liked` (in {rate:.1%} of the rows)"


def _place_value(profile: Profile, guess: Guess, user: Profile, item: Profile, names: _Names) -> str:
    kind = ColumnType.FLAG if profile.is_flag else profile.kind
    is_quantity = kind is ColumnType.NUMBER or (kind is ColumnType.INTEGER and profile.distinct > _CATEGORY_LIMIT)
    value_kind = ColumnType.NUMBER if is_quantity else kind
    if profile.depends_on(item):
        guess.item_attributes.append(names.column(profile, value_kind))
        return "an attribute of the item: the same in all of an item's rows"
    if profile.depends_on(user):
        guess.user_attributes.append(names.column(profile, value_kind))
        return "an attribute of the user: the same in all of a user's rows"
    if _LATER.search(profile.name):
        return "left out: by its name it is known only after the exposure (an action could carry it)"
    if is_quantity:
        return "left out: a quantity that may be known only after the exposure (add it if it is known before)"
    if profile.distinct > _CATEGORY_LIMIT:
        return f"left out: {profile.distinct:,} distinct texts (declare an entity if it identifies something)"
    guess.context.append(names.column(profile, kind))
    return f"context of the exposure, with {profile.distinct:,} values (leave it out if it is known only later)"
