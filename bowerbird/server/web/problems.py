"""Errors over the wire: RFC 9457 problem documents that keep the error's class."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bowerbird.errors import BowerbirdError, DeclarationError, OverloadedError, UnauthorizedError, UnavailableError
from bowerbird.server.inference.wire import ErrorAnswer
from bowerbird.server.observe.logs import fields_of_request
from bowerbird.server.web.http import JSON, Response
from bowerbird.server.wire import ProblemDocument

PROBLEM_JSON = "application/problem+json"
_LOG = logging.getLogger("bowerbird.server")


def problem_document(error: BowerbirdError, request_id: str) -> dict[str, Any]:
    """Return the document of an error: what is wrong (``detail``) and what to do (``remedy``)."""
    document: dict[str, Any] = {
        "type": f"urn:bowerbird:problem:{error.code}",
        "title": _title(error.code, type(error).__doc__),
        "status": error.status,
        "detail": error.what,
        "code": error.code,
        "remedy": error.remedy,
        "instance": request_id,
    }
    if isinstance(error, DeclarationError):
        document["problems"] = [
            {"line": each.line, "what": each.what, "remedy": each.remedy} for each in error.problems
        ]
    return document


def problem_response(error: Exception, request_id: str) -> Response:
    """Return the answer to a failed request; an unexpected exception is logged and shown as status 500."""
    known = known_error(error, request_id)
    response = _failed(known, problem_document(known, request_id))
    response.content_type = PROBLEM_JSON
    return response


def refusal_response(error: Exception, request_id: str) -> Response:
    """Return the answer to a failed request in the form of the Open Inference Protocol: ``{"error": …}``."""
    known = known_error(error, request_id)
    return _failed(known, {"error": str(known)})


@dataclass(frozen=True)
class ErrorForm:
    """What errors look like: how an answer is made of an error and the request's id, its type and content type."""

    answer: Callable[[Exception, str], Response]
    type: Any
    content_type: str


PROBLEMS = ErrorForm(problem_response, ProblemDocument, PROBLEM_JSON)
REFUSALS = ErrorForm(refusal_response, ErrorAnswer, JSON)


def known_error(error: Exception, request_id: str) -> BowerbirdError:
    """Return the error to be shown: a BowerbirdError itself; another exception is logged and not shown."""
    if isinstance(error, BowerbirdError):
        return error
    _LOG.error("request %s failed", request_id, exc_info=error, extra=fields_of_request(request_id))
    return BowerbirdError("The server met an unexpected error.", f"Look for request {request_id} in the server's log.")


@cache
def _title(code: str, means: str | None) -> str:
    return (means or code).split("\n")[0].rstrip(".")


def _failed(error: BowerbirdError, document: dict[str, Any]) -> Response:
    response = Response.json(document, error.status)
    if isinstance(error, UnavailableError):
        response.headers.append((b"retry-after", b"1"))
    if isinstance(error, OverloadedError):
        response.headers += [
            (b"retry-after", b"%d" % math.ceil(error.retry_after)),
            (b"retry-after-ms", b"%d" % math.ceil(error.retry_after * 1e3)),
        ]
    if isinstance(error, UnauthorizedError):
        response.headers.append((b"www-authenticate", b"Bearer"))
    return response
