"""One tree of errors: each says what is wrong, the value, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


class BowerbirdError(Exception):
    """Base of every error that a user can meet.

    ``what`` says what is wrong (with the offending value), ``remedy`` what to do about it.
    ``code`` names the class over the wire and ``status`` is its HTTP status.
    """

    code = "error"
    status = 500

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Problem:
    """One mistake in a declaration: where it stands and what to do about it."""

    file: str
    line: int
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} {self.remedy}".strip()


class DeclarationError(BowerbirdError):
    """The user's declarations are wrong; ``problems`` lists every mistake."""

    code = "declaration"
    status = 422

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InputError(BowerbirdError):
    """Data or a request from outside is not acceptable."""

    code = "input"
    status = 422


class NotFoundError(BowerbirdError):
    """The thing asked for does not exist."""

    code = "not_found"
    status = 404


class TooLargeError(BowerbirdError):
    """A request exceeds a declared limit."""

    code = "too_large"
    status = 413


class UnauthorizedError(BowerbirdError):
    """The API key is missing or unknown."""

    code = "unauthorized"
    status = 401


class ForbiddenError(BowerbirdError):
    """The API key does not allow this."""

    code = "forbidden"
    status = 403


class MethodError(BowerbirdError):
    """The path exists, but not with this HTTP method."""

    code = "method"
    status = 405


class UnavailableError(BowerbirdError):
    """The server cannot answer now: not ready, full, or shutting down."""

    code = "unavailable"
    status = 503


class OverloadedError(BowerbirdError):
    """The server has more work than it can answer in time; nothing was done for the request.

    ``retry_after`` is in how many seconds the work that waits is expected to be done.
    """

    code = "overloaded"
    status = 429
    retry_after = 1.0


class DeadlineError(BowerbirdError):
    """The answer did not come in the time that the request had; a server says so of what it did not compute."""

    code = "deadline"
    status = 504


class CorruptionError(BowerbirdError):
    """Stored bytes are not what was written: a hash, checksum or length disagrees."""

    code = "corruption"
    status = 500


class FunctionError(BowerbirdError):
    """A project's own function failed, or returned what a feature cannot be."""

    code = "function"
    status = 500


class StorageError(BowerbirdError):
    """The file system refused: disk full, permission, missing folder."""

    code = "storage"
    status = 507


class GateError(BowerbirdError):
    """A version did not pass its gates and was not published."""

    code = "gate"
    status = 409


class MissingExtraError(BowerbirdError):
    """An optional dependency is not installed."""

    code = "missing_extra"
    status = 501


def error_from(code: str, what: str, remedy: str) -> BowerbirdError:
    """Return an error that another process met, of its own class."""
    found = next((each for each in _classes(BowerbirdError) if each.code == code), BowerbirdError)
    if found.__init__ is not BowerbirdError.__init__:
        found = BowerbirdError
    return found(what, remedy)


def _classes(parent: type[BowerbirdError]) -> Iterator[type[BowerbirdError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from _classes(child)
