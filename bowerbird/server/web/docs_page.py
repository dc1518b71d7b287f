"""The ``/docs`` page: the OpenAPI document as plain HTML, without anything from the network."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1d2733;background:#fbfbf8}
h1{font-weight:600}h2{margin-top:2.5rem;border-bottom:1px solid #d8d8d0}
details{border:1px solid #d8d8d0;border-radius:6px;margin:.6rem 0;background:#fff;padding:.5rem .8rem}
summary{cursor:pointer}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f2f2ec;padding:.8rem;overflow:auto}
.m{display:inline-block;min-width:3.5rem;font-weight:600;color:#0b5fa5}.POST{color:#0a7a4b}td,th{text-align:left;
padding:.2rem .9rem .2rem 0;vertical-align:top}
"""


def docs_page(document: dict[str, Any]) -> bytes:
    """Return the page for an OpenAPI document, UTF-8."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            html = _operation(method.upper(), path, operation, document)
            groups.setdefault(operation["tags"][0], []).append(html)
    body = "".join(f"<h2>{escape(tag.capitalize())}</h2>{''.join(parts)}" for tag, parts in groups.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Bowerbird API</title><style>{_STYLE}</style><h1>Bowerbird API</h1>"
        f"<p>{escape(document['info']['description'])} The same as a machine reads it: "
        f"<a href=/openapi.json>/openapi.json</a>.</p>{body}"
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', ''))}</p>"]
    if operation["parameters"]:
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code><td>{each['in']}<td>{escape(each.get('description', ''))}"
            for each in operation["parameters"]
        )
        parts.append(f"<table>{rows}</table>")
    body = operation.get("requestBody")
    if body:
        parts.append("<h4>Body</h4>" + _content(body, document))
    answer = operation["responses"]["200"]
    if "content" in answer:
        parts.append("<h4>Answer</h4>" + _content(answer, document))
    return (
        f"<details><summary><span class='m {method}'>{method}</span> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary>{''.join(parts)}</details>"
    )


def _content(holder: dict[str, Any], document: dict[str, Any]) -> str:
    schema = next(iter(holder["content"].values()))["schema"]
    resolved = _resolve(schema, document)
    description = resolved.get("description", "") if isinstance(resolved, dict) else ""
    return f"<p>{escape(description)}</p><pre>{escape(json.dumps(_sketch(schema, document), indent=2))}</pre>"


def _resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _sketch(schema: dict[str, Any], document: dict[str, Any], around: tuple[str, ...] = ()) -> Any:
    """Return an example-like value of a schema: names and types; what is in itself is shown once."""
    name = schema.get("$ref", "")
    if name and name in around:
        return "…"
    around = (*around, name)
    schema = _resolve(schema, document)
    if "anyOf" in schema:
        choices = [_sketch(each, document, around) for each in schema["anyOf"]]
        return " | ".join(choices) if all(isinstance(each, str) for each in choices) else choices[-1]
    kind = schema.get("type")
    if kind == "array":
        return [_sketch(schema.get("items", {}), document, around), "…"]
    if kind == "object" and "properties" in schema:
        return {name: _sketch(each, document, around) for name, each in schema["properties"].items()}
    if kind == "object":
        return {"…": _sketch(schema.get("additionalProperties", {}) or {}, document, around)}
    return kind or "any value"
