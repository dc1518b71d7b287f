"""Requests and responses: the few parts of HTTP that handlers see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from bowerbird.errors import InputError

Decoded = TypeVar("Decoded")
JSON = "application/json"
_ENCODER = msgspec.json.Encoder()


@dataclass(slots=True)
class Request:
    """One HTTP request, its body read whole; ``parameters`` are the path's, decoded."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    query_text: bytes
    client: str
    id: str
    body: bytes = b""
    parameters: dict[str, str] = field(default_factory=dict)

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
    """Status, body and headers of an answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @staticmethod
    def json(value: Any, status: int = 200) -> Response:
        """Return ``value`` as JSON; NaN becomes null."""
        return Response(_ENCODER.encode(value), status)
