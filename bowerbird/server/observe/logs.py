"""Logs as JSON lines, and a line for each request where that is asked for."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import msgspec

ACCESS = logging.getLogger("bowerbird.access")
_FIELDS = "fields"
_ENCODER = msgspec.json.Encoder(enc_hook=str)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, its own fields, the exception's trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line).decode()


def log_as_json() -> None:
    """Write what the process logs as JSON lines from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter())


def log_requests() -> None:
    """Write a line for each request from now on."""
    ACCESS.setLevel(logging.INFO)


def log_request(fields: dict[str, Any]) -> None:
    """Log one answered request."""
    shown = " ".join(f"{name}={value}" for name, value in fields.items())
    ACCESS.info("%s", shown, extra={_FIELDS: fields})


def fields_of_request(request_id: str) -> dict[str, Any]:
    """Return what a record about a request is told beside its message, as ``logging`` wants it."""
    return {_FIELDS: {"request": request_id}}
