"""The OpenAPI 3.1 document, made from the routes and their msgspec types."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from bowerbird.server.web.http import JSON
from bowerbird.server.web.problems import PROBLEMS
from bowerbird.server.web.routing import Route

_REFERENCE = "#/components/schemas/{name}"


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document that ``/openapi.json`` serves."""
    listed = list(routes)
    types = _types_of(listed)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type = {id(each): schema for each, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bowerbird",
            "version": version("bowerbird"),
            "description": "Features, scores, recommendations and events of one project.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "bowerbird keys create"}},
        },
    }


def _types_of(routes: list[Route]) -> list[Any]:
    types: list[Any] = []
    for route in routes:
        types += [each for each in (route.errors.type, route.body, route.answer) if each is not None]
    return types


def _operation(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    answer = {"description": "The answer."}
    if route.answer is not None:
        answer["content"] = {JSON: {"schema": by_type[id(route.answer)]}}  # type: ignore[assignment]
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{route.template.replace('/', '_').replace('{', '').replace('}', '')}",
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": {
            "200": answer,
            "default": {
                "description": "A problem (RFC 9457)." if route.errors is PROBLEMS else "An error.",
                "content": {route.errors.content_type: {"schema": by_type[id(route.errors.type)]}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": by_type[id(route.body)]}}}
    if route.scope is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"Needs the scope `{route.scope}` where keys exist."
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    path = [{"name": name, "in": "path", "required": True, "schema": text} for name in route.parameters]
    query = [{"name": name, "in": "query", "description": meaning, "schema": text} for name, meaning in route.query]
    return path + query
