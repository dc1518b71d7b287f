"""One call of the API as data: what is sent, what comes back, and whether it may be sent twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from bowerbird.errors import BowerbirdError

Answer = TypeVar("Answer")
Repeat = Literal["safe", "unsent", "never"]
"""``safe``: twice is as good as once. ``unsent``: only where the server never began with it. ``never``: not at all."""


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """A request whose answer has the type ``answer``."""

    method: str
    path: str
    answer: type[Answer]
    body: bytes = b""
    repeat: Repeat = "safe"

    def decode(self, reply: Reply) -> Answer:
        """Return an answer in its type; BowerbirdError where the body is something else."""
        try:
            return msgspec.json.decode(reply.content, type=self.answer)
        except msgspec.DecodeError as error:
            raise BowerbirdError(
                f"{reply.address} answered what the client does not know: {error}.",
                "Is this a Bowerbird server of the client's version, and no proxy's page?",
            ) from error


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers with lower-case names, the whole body."""

    address: str
    status: int
    headers: dict[str, str]
    content: bytes


def json_body(value: Any) -> bytes:
    """Return a body as JSON."""
    return msgspec.json.encode(value)
