"""Which days train, which choose and calibrate, and which are looked at once."""

from __future__ import annotations

import datetime
import itertools

import msgspec

from bowerbird.errors import InputError


class DateRange(msgspec.Struct, frozen=True):
    """Days from ``since`` to ``until``, both included, as ``YYYY-MM-DD`` (UTC)."""

    since: str
    until: str

    def __str__(self) -> str:
        return self.since if self.since == self.until else f"{self.since}:{self.until}"


class Split(msgspec.Struct, frozen=True):
    """Three ranges in time order; ``test`` may be absent."""

    train: DateRange
    validation: DateRange
    test: DateRange | None = None


_LATEST_SHARE = 0.1


def choose_split(
    days: dict[str, int],
    since: str | None = None,
    until: str | None = None,
    validation: str | None = None,
    test: str | None = None,
) -> Split:
    """Return the split of samples that have ``days`` (rows by date, ascending).

    ``validation`` and ``test`` are dates or ranges ``FIRST:LAST``. Without a validation range it is the
    latest days that hold a tenth of the rows before the test range. Training ends the day before
    validation, or at ``until``. Raises InputError when a range is empty or out of order.
    """
    test_range = date_range(test, "test") if test else None
    before_test = {day: rows for day, rows in days.items() if test_range is None or day < test_range.since}
    validation_range = date_range(validation, "validation") if validation else _latest(before_test)
    earlier = [day for day in days if day < validation_range.since]
    first = since or (earlier[0] if earlier else "")
    last = until or (earlier[-1] if earlier else "")
    split = Split(DateRange(_date(first, "since"), _date(last, "until")), validation_range, test_range)
    _check(split, days)
    return split


def _latest(days: dict[str, int]) -> DateRange:
    if len(days) < 2:
        raise InputError(
            f"The samples cover {len(days)} day(s), too few to train on some and validate on others.",
            "Make samples of at least two days.",
        )
    wanted = _LATEST_SHARE * sum(days.values())
    dates = list(days)
    taken, position = 0, len(dates)
    while taken < wanted and position > 1:
        position -= 1
        taken += days[dates[position]]
    return DateRange(dates[position], dates[-1])


def date_range(text: str, option: str) -> DateRange:
    """Return a date or ``FIRST:LAST`` as a range; raises InputError, naming the ``option``, where it is neither."""
    first, _, last = text.partition(":")
    return DateRange(_date(first, option), _date(last or first, option))


def _date(text: str, option: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InputError(f"{option} is {text!r}, which is not a date.", "Write it as YYYY-MM-DD.") from error


def _check(split: Split, days: dict[str, int]) -> None:
    ranges = [("train", split.train), ("validation", split.validation)]
    ranges += [("test", split.test)] if split.test else []
    for (earlier_name, earlier), (name, later) in itertools.pairwise(ranges):
        if later.since <= earlier.until:
            raise InputError(
                f"The {name} range {later} does not come after the {earlier_name} range {earlier}.",
                "Ranges must follow each other in time.",
            )
    for name, dates in ranges:
        if not any(dates.since <= day <= dates.until and rows for day, rows in days.items()):
            known = f"{min(days)} to {max(days)}" if days else "none"
            raise InputError(f"No samples in the {name} range {dates}.", f"The samples' days: {known}.")
