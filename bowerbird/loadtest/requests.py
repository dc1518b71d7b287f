"""What is asked: requests of a workspace's slates, or of a file, encoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from bowerbird.errors import InputError
from bowerbird.serving.logged_slates import loaded
from bowerbird.serving.slate import Slate, SlateReference


@dataclass(frozen=True)
class Request:
    """A path, a JSON body, and when it was asked in the log (seconds; 0 where that is unknown)."""

    path: str
    body: bytes
    time: float = 0.0
    method: str = "POST"


@dataclass(frozen=True)
class Target:
    """Where requests go: an ``http://host:port`` taken apart, and what every request's head says."""

    host: str
    port: int
    head: bytes

    @staticmethod
    def of(address: str, key: str = "", deadline_ms: float | None = None) -> Target:
        """Return the target of an address; InputError for one that is not plain HTTP."""
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname is None:
            raise InputError(f"{address!r} is not an address for a load test.", "Give one like http://127.0.0.1:8765.")
        lines = [f"host: {parts.netloc}", "content-type: application/json"]
        if key:
            lines.append(f"authorization: Bearer {key}")
        if deadline_ms is not None:
            lines.append(f"x-deadline-ms: {deadline_ms:.0f}")
        return Target(parts.hostname, parts.port or 80, "\r\n".join(lines).encode())

    def encode(self, request: Request) -> bytes:
        """Return a request as bytes."""
        first = f"{request.method} {request.path} HTTP/1.1\r\n".encode()
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (first, self.head, len(request.body), request.body)


def requests_of_slates(slates: Iterable[SlateReference], most: int) -> list[Request]:
    """Return the latest ``most`` requests that a server answered, oldest first; InputError where there are none."""
    found = [_asked(slate) for slate in loaded(deque(slates, maxlen=most))]
    if not found:
        raise InputError("No slate was served yet.", "Serve some requests first, or give a file: --requests FILE.")
    return found


def requests_of_file(file: Path, path: str, most: int) -> list[Request]:
    """Return the first ``most`` requests of a JSONL file.

    A line is ``{"path": …, "body": …}`` with ``method`` and ``time`` (seconds) where known, or a body alone, which
    goes to ``path``. InputError for a line that is neither, and for a file that cannot be read.
    """
    found = [_line(line, number, file, path) for number, line in _lines(file, most)]
    if not found:
        raise InputError(f"{file} has no request.", 'Write one a line: {"path": "/v1/scenes/…/score", "body": {…}}.')
    return found


def recorded_times(requests: Sequence[Request]) -> list[float]:
    """Return when requests were asked, in seconds; InputError unless all know, in order."""
    times = [request.time for request in requests]
    ordered = all(earlier <= later for earlier, later in pairwise(times))
    if not all(times) or not ordered or times[-1] <= times[0]:
        raise InputError("The requests have no recorded times in order.", "Use --arrivals poisson.")
    return times


def _asked(slate: Slate) -> Request:
    body: dict[str, Any] = {"user": slate.user, "context": slate.context, "features": slate.given}
    if slate.kind == "recommend":
        body["count"] = max(len(slate.shown), 1)
    else:
        body["candidates"] = [
            {"id": item, "features": slate.candidate_given[place]} if place in slate.candidate_given else item
            for place, item in enumerate(slate.candidates)
        ]
    path = f"/v1/scenes/{quote(slate.scene, '')}/{slate.kind}"
    return Request(path, msgspec.json.encode(body), slate.time / 1e6)


def _lines(file: Path, most: int) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as stream:
            numbered = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
            yield from islice(numbered, most)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}.", "Give a file of requests, one a line.") from error


def _line(line: bytes, number: int, file: Path, path: str) -> Request:
    try:
        given = msgspec.json.decode(line, type=dict[str, Any])
        if "path" not in given:
            if not path:
                raise InputError(f"{file}:{number} has no path.", "Write it into the line, or give --path.")
            return Request(path, line.strip())
        body = msgspec.json.encode(given["body"]) if "body" in given else b""
        return Request(str(given["path"]), body, float(given.get("time", 0.0)), str(given.get("method", "POST")))
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise InputError(f"{file}:{number} is not a request: {error}.", "Write a JSON object a line.") from error
