"""A mistake in a declaration, while it is being compiled."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bowerbird.declare.columns import Location
from bowerbird.errors import Problem


class Mistake(Exception):
    """Raised at the first mistake of one declaration; ``problem`` says where it stands."""

    def __init__(self, location: Location, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.problem = Problem(location.file, location.line, what, remedy)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a remedy that names the nearest right name and what else there is."""
    names = sorted(set(choices))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names) if names else "none"
    return f"Did you mean {close[0]!r}? There are: {listed}." if close else f"There are: {listed}."
