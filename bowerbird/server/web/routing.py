"""Routes: a method and a path template with its handler, scope and documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from bowerbird.errors import MethodError, NotFoundError
from bowerbird.server.web.access import Scope
from bowerbird.server.web.http import Request, Response
from bowerbird.server.web.problems import PROBLEMS, ErrorForm

Handler = Callable[[Request], Awaitable[Response]]
_KNOWN = 1024
_SHORT = 200
"""So many paths of up to so many characters are found again without a search."""


@dataclass(frozen=True)
class Route:
    """One operation of the API.

    ``template`` holds ``{name}`` segments; ``scope`` is what an API key must allow (None: open to all);
    ``body`` and ``answer`` are msgspec types for the OpenAPI page; ``query`` maps parameters to their meaning;
    ``errors`` says what errors look like; ``admit`` may refuse a request by its head, before its body is read.
    """

    method: str
    template: str
    handler: Handler
    summary: str
    scope: Scope | None
    tag: str
    body: Any = None
    answer: Any = None
    query: tuple[tuple[str, str], ...] = ()
    admit: Callable[[Request], None] | None = None
    errors: ErrorForm = PROBLEMS

    @property
    def parameters(self) -> list[str]:
        """The names in the template, in order."""
        return [part[1:-1] for part in self.template.split("/") if part.startswith("{")]


class Router:
    """Finds a route by method and path; literal segments win over parameters."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = list(routes)
        self._by_length: dict[int, list[tuple[list[str], Route]]] = {}
        for route in self.routes:
            parts = route.template.strip("/").split("/")
            self._by_length.setdefault(len(parts), []).append((parts, route))
        for group in self._by_length.values():
            group.sort(key=lambda entry: [part.startswith("{") for part in entry[0]])
        self._known = lru_cache(_KNOWN)(self._find)

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route and its path parameters; raises NotFoundError or MethodError."""
        return self._known(method, path) if len(path) <= _SHORT else self._find(method, path)

    def _find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        parts = path.strip("/").split("/")
        allowed: list[str] = []
        for template, route in self._by_length.get(len(parts), []):
            parameters = _match(template, parts)
            if parameters is None:
                continue
            if route.method == method:
                return route, parameters
            allowed.append(route.method)
        if allowed:
            raise MethodError(f"{method} is not a method of {path}.", f"Use {' or '.join(sorted(allowed))}.")
        raise NotFoundError(f"Nothing stands at {path}.", "See /docs for every path.")


def _match(template: list[str], parts: list[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for expected, part in zip(template, parts, strict=True):
        if expected.startswith("{"):
            if not part:
                return None
            parameters[expected[1:-1]] = unquote(part)
        elif expected != part:
            return None
    return parameters
