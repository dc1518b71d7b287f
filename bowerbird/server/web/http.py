"""Requests and responses: the few parts of HTTP that handlers see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from bowerbird.errors import InputError
from bowerbird.server.load.admission import Work
from bowerbird.server.web.request_id import new_request_id

Decoded = TypeVar("Decoded")
JSON = "application/json"
DISCONNECT = "bowerbird.disconnect"
"""Where an ASGI scope holds what to call when its client goes before it was answered."""
_ENCODER = msgspec.json.Encoder()
_GIVEN_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class Request:
    """One HTTP request, its body read whole; ``parameters`` are the path's, decoded.

    It came at ``arrived`` (monotonic seconds); ``work`` is what it was admitted for before its body was read.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    query_text: bytes
    client: str
    id: str = field(init=False)
    body: bytes = b""
    parameters: Mapping[str, str] = field(default_factory=dict)
    scope: MutableMapping[str, Any] = field(default_factory=dict)
    arrived: float = field(default_factory=time.monotonic)
    work: Work | None = None

    def __post_init__(self) -> None:
        """Take the id that the client gave, or a new one."""
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode("latin-1") if _GIVEN_ID.fullmatch(given) else new_request_id()

    @property
    def body_length(self) -> int:
        """The length that the head declares, 0 where it declares none."""
        declared = self.headers.get(b"content-length", b"")
        return int(declared) if declared.isdigit() and len(declared) < 19 else 0

    def on_disconnect(self, call: Callable[[], None]) -> None:
        """Call this when the client goes before it was answered, where the server can tell."""
        self.scope[DISCONNECT] = call

    def query(self, name: str, default: str = "") -> str:
        """Return the last value of a query parameter."""
        if not self.query_text:
            return default
        return parse_qs(self.query_text.decode("latin-1"), keep_blank_values=True).get(name, [default])[-1]

    def flag(self, name: str) -> bool:
        """Return whether a query parameter is ``true`` or ``1``; InputError on another value than a boolean."""
        value = self.query(name, "false").lower()
        if value not in ("true", "false", "1", "0", ""):
            raise InputError(f"?{name}={value} is not a boolean.", "Write true or false.")
        return value in ("true", "1", "")

    def decode(self, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
        """Return the body as the decoder's type; InputError says where it differs."""
        try:
            return decoder.decode(self.body)
        except msgspec.ValidationError as error:
            raise InputError(f"The body is not what {self.path} takes: {error}.", "See /docs.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"The body is not JSON: {error}.",
                "Send UTF-8 JSON (NaN and Infinity are not JSON; use null).",
            ) from error


@dataclass(slots=True)
class Response:
    """Status, body and headers of an answer; ``stages`` are the seconds that it took, where they were measured."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)

    def head(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer to a request."""
        return [
            (b"content-type", self.content_type.encode()),
            (b"content-length", str(len(self.body)).encode()),
            (b"x-request-id", request_id.encode("latin-1")),
            *self.headers,
        ]

    @staticmethod
    def json(value: Any, status: int = 200) -> Response:
        """Return ``value`` as JSON; NaN becomes null."""
        return Response(_ENCODER.encode(value), status)
