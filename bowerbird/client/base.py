"""What both clients share: how they are made, and what an attempt sends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, TypedDict, TypeVar

import httpx

from bowerbird.client.call import Call, Reply
from bowerbird.client.exchange import Send, Steps, exchange
from bowerbird.client.retries import Retries, RetryBudget

Answer = TypeVar("Answer")
DEADLINE_HEADER = "x-deadline-ms"
"""Milliseconds that the answer is waited for, from the request's arrival: after them the server need not begin."""
_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 60.0


class HttpSettings(TypedDict):
    """Keyword arguments of httpx's clients."""

    base_url: str
    headers: dict[str, str]
    limits: httpx.Limits
    trust_env: bool


class ClientBase(ABC):
    """A server's address, a client's patience, and the course of its calls."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8765",
        key: str = "",
        timeout: float = 30.0,
        *,
        connections: int = 100,
        retries: Retries | None = None,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self.retries = retries or Retries()
        self._budget = RetryBudget(self.retries)
        self._open(_settings(address, key, connections))

    @abstractmethod
    def _open(self, settings: HttpSettings) -> None:
        """Make the pool of connections; nothing is connected yet."""

    def _begin(self, call: Call[Answer]) -> Steps[Answer]:
        return exchange(call, self.address, self.timeout, self.retries, self._budget)


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call[Any], step: Send) -> httpx.Request:
    """Return the request of an attempt, with its deadline."""
    timeout = httpx.Timeout(step.seconds, connect=min(step.seconds, _CONNECT_SECONDS))
    deadline = {DEADLINE_HEADER: str(max(int(step.seconds * 1e3), 1))}
    return http.build_request(call.method, call.path, content=call.body, headers=deadline, timeout=timeout)


def reply_of(response: httpx.Response, content: bytes) -> Reply:
    """Return what came back."""
    return Reply(str(response.url), response.status_code, dict(response.headers), content)


def describe(method: Callable[..., Any], make: Callable[..., Call[Any]]) -> None:
    """Give a method the name, the words and the parameters of the function that makes its calls."""
    made = signature(make)
    parameters = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *made.parameters.values()]
    answer = str(made.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__name__, method.__qualname__, method.__doc__ = make.__name__, make.__name__, make.__doc__
    method.__signature__ = made.replace(parameters=parameters, return_annotation=answer)  # type: ignore[attr-defined]


def _settings(address: str, key: str, connections: int) -> HttpSettings:
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return {
        "base_url": address,
        "headers": headers,
        "limits": httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_IDLE_SECONDS
        ),
        "trust_env": False,
    }
