"""Writes docs/reference from docstrings, commands, settings and the API; ``make docs``.

The same sources give the same files, byte by byte.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec

import bowerbird.client
import bowerbird.declare
import bowerbird.errors
from bowerbird.cli.main import cli
from bowerbird.declare.workspace import Settings, load_workspace
from bowerbird.server.build import build_application
from bowerbird.server.services import Services

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
_MARKUP = re.compile(r"``(.+?)``", re.DOTALL)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    document = asyncio.run(_openapi())
    pages = {
        "declarations.md": _module_page("Declarations", bowerbird.declare, "What `project.py` is written with."),
        "client.md": _module_page("Python client", bowerbird.client, "`from bowerbird.client import Client`"),
        "errors.md": _module_page("Errors", bowerbird.errors, "What commands, client and server raise."),
        "settings.md": _page("Settings", "What `bowerbird.toml` may say; all of it is optional.", _settings()),
        "commands.md": _page("Commands", "`bowerbird COMMAND --help` says the same.", _commands(cli, "bowerbird")),
        "api.md": _page("HTTP API", "The whole description: [openapi.json](openapi.json).", _operations(document)),
        "openapi.json": msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2).decode() + "\n",
    }
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


def _page(title: str, lead: str, lines: Iterator[str]) -> str:
    return "\n".join([f"# {title}", "", lead, "", *lines]).rstrip() + "\n"


def _module_page(title: str, module: types.ModuleType, lead: str) -> str:
    return _page(title, lead, _members(module))


def _members(module: types.ModuleType) -> Iterator[str]:
    names = getattr(module, "__all__", None) or sorted(vars(module))
    for name in names:
        member = getattr(module, name)
        if name.startswith("_") or not str(getattr(member, "__module__", "")).startswith("bowerbird"):
            continue
        if inspect.isclass(member):
            yield from _class(member)
        elif inspect.isfunction(member):
            yield from _function(member, f"{name}", "##")


def _class(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}"
    yield ""
    if dataclasses.is_dataclass(kind):
        yield from _code(f"{kind.__name__}{_fields(kind)}")
    elif not issubclass(kind, BaseException | Enum) and inspect.isfunction(kind.__init__):
        yield from _code(f"{kind.__name__}{_signature(kind)}")
    yield from _text(kind)
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and (not name.startswith("_") or name == "__getitem__") and method.__doc__:
            yield from _function(method, f"{kind.__name__}.{name}", "###")


def _function(function: Any, name: str, heading: str) -> Iterator[str]:
    yield f"{heading} {name}"
    yield ""
    yield from _code(f"{name.split('.')[-1]}{_signature(function)}")
    yield from _text(function)


def _fields(kind: type) -> str:
    shown = [field for field in dataclasses.fields(kind) if field.name != "location"]
    parts = [f"{field.name}: {field.type}{_default(field)}" for field in shown]
    return f"({', '.join(parts)})"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    return " = …" if field.default_factory is not dataclasses.MISSING else ""


def _signature(function: Any) -> str:
    return (
        _ADDRESS.sub("", str(inspect.signature(function)))
        .replace("'", "")
        .replace("(self, ", "(")
        .replace("(self)", "()")
    )


def _code(text: str) -> Iterator[str]:
    yield from ("```python", text, "```", "")


def _text(member: Any) -> Iterator[str]:
    yield _MARKUP.sub(r"`\1`", inspect.getdoc(member) or "")
    yield ""


def _settings() -> Iterator[str]:
    for section in msgspec.structs.fields(Settings):
        kind: Any = section.type
        yield f"## [{section.name}]"
        yield ""
        yield from _text(kind)
        yield "| setting | type | default |"
        yield "|---|---|---|"
        for field in msgspec.structs.fields(kind):
            named = field.type.__name__ if isinstance(field.type, type) else str(field.type).replace("|", "\\|")
            yield f"| `{field.name}` | {named} | `{field.default!r}` |"
        yield ""


def _commands(group: click.Group, path: str) -> Iterator[str]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield from _command(command, f"{path} {name}")
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    yield f"## {path}"
    yield ""
    context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
    yield from ("```", command.get_help(context), "```", "")


async def _openapi() -> dict[str, Any]:
    services = Services(load_workspace(ROOT / "examples" / "movielens"))
    transport = httpx.ASGITransport(app=build_application(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://docs") as client:
        document: dict[str, Any] = (await client.get("/openapi.json")).raise_for_status().json()
    services.pool.close()
    return document


def _operations(document: dict[str, Any]) -> Iterator[str]:
    yield "| method | path | what it does |"
    yield "|---|---|---|"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"| {method.upper()} | `{path}` | {operation['summary']} |"


if __name__ == "__main__":
    main()
