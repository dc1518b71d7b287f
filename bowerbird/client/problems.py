"""Problem documents back into the errors that they came from."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec

from bowerbird.client.call import Reply
from bowerbird.errors import BowerbirdError, UnavailableError


def error_of(reply: Reply) -> BowerbirdError:
    """Return the error that an answer stands for, of the class that the server raised."""
    try:
        document = msgspec.json.decode(reply.content)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict) or "code" not in document:
        return _unknown(reply)
    classes = {each.code: each for each in _classes(BowerbirdError)}
    found = classes.get(document["code"])
    what, remedy = str(document.get("detail", "")), str(document.get("remedy", ""))
    if found is None or found.__init__ is not BowerbirdError.__init__:
        error = BowerbirdError(what, remedy)
        error.code, error.status = document["code"], reply.status
        return error
    return found(what, remedy)


def unreachable(address: str, error: httpx.RequestError) -> UnavailableError:
    """Return the error for a server that gave no answer."""
    return UnavailableError(
        f"{address} gives no answer: {error or type(error).__name__}.", "Start it with `bowerbird serve`."
    )


def _unknown(reply: Reply) -> BowerbirdError:
    error = BowerbirdError(
        f"{reply.address} answered {reply.status} without a problem document.",
        "Is this a Bowerbird server, and no proxy's page?",
    )
    error.status = reply.status
    return error


def _classes(parent: type[BowerbirdError]) -> Iterator[type[BowerbirdError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from _classes(child)
