"""Until when a request has to be answered."""

from __future__ import annotations

from bowerbird.errors import InputError
from bowerbird.server.web.http import Request

HEADER = b"x-deadline-ms"
_LONGEST_MS = 600_000


def deadline_of(request: Request, default_seconds: float) -> float:
    """Return the request's deadline in seconds of ``time.monotonic()``.

    ``X-Deadline-Ms`` counts from the request's arrival; InputError for what is no number of milliseconds up to ten
    minutes.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return request.arrived + default_seconds
    if not text.isdigit() or not 1 <= int(text) <= _LONGEST_MS:
        raise InputError(
            f"X-Deadline-Ms is {text.decode('latin-1')!r}.", f"Give whole milliseconds, 1 to {_LONGEST_MS:,}."
        )
    return request.arrived + int(text) / 1e3
