"""The users' own functions as code: found by import path, named by the hash of their source, run in isolation.

A module's source is what a plan, a sample set and a bundle carry of it. It is executed once for each hash, under a name
of its own, so that versions of one module live side by side in a process. What has been read once stays known by its
hash: an older bundle's functions are found although the workspace's file has changed since.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bowerbird.errors import InputError
from bowerbird.plan.mistake import nearest
from bowerbird.plan.spec import Function, Plan

FUNCTIONS_FOLDER = "functions"
"""Where samples, runs and bundles keep the sources of their plan's functions."""
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class UserFunction:
    """A loaded function: ``path`` is ``module:name``, ``digest`` the SHA-256 of its module's source."""

    path: str
    digest: str
    call: Callable[..., Any]

    def __call__(self, *columns: Any) -> Any:
        """Return what the user's function returns."""
        return self.call(*columns)


@dataclass(frozen=True)
class _Source:
    text: bytes
    file: str


_sources: dict[tuple[str, str], _Source] = {}
_lock = threading.RLock()


def load_function(path: str, folder: Path | None = None) -> UserFunction:
    """Return the function ``module:name``; its module is looked for in ``folder``, then among installed packages.

    Raises InputError where the path, the module or the function is not there, or cannot be executed or called.
    """
    module, _ = _parts(path)
    return _function(path, _offer(module, _locate(module, folder)))


def digest_of(function: UserFunction) -> str:
    """Return the SHA-256 (hexadecimal) of the source of a loaded function's module."""
    return function.digest


def resolve_function(function: Function, folder: Path | None = None) -> UserFunction:
    """Return a plan's function: by its hash where its source is known, else from ``folder`` or the installed packages.

    Raises InputError where what is found there has another hash.
    """
    module, _ = _parts(function.path)
    if (module, function.digest) in _sources:
        return _function(function.path, function.digest)
    found = _offer(module, file := _locate(module, folder))
    if found != function.digest:
        raise InputError(
            f"{file} has changed: the plan was made with {function.path!r} of {function.digest}, and it is {found}.",
            "Restore the file, or make samples, train and publish with the new one.",
        )
    return _function(function.path, found)


def functions_of(plan: Plan) -> list[Function]:
    """Return the user's functions of a plan, each once."""
    return list({node.function.path: node.function for node in plan.nodes if node.function is not None}.values())


def function_files(plan: Plan) -> dict[str, bytes]:
    """Return the sources of a plan's functions by the file names under which they travel with it.

    Raises InputError for one whose source this process has not read.
    """
    return source_files(functions_of(plan))


def read_function_files(plan: Plan, folder: Path) -> None:
    """Make the sources known that travel with a plan in ``folder``; what is not there may be installed."""
    read_source_files(functions_of(plan), folder)


def source_files(functions: Iterable[Function], kept: str = FUNCTIONS_FOLDER) -> dict[str, bytes]:
    """Return the sources of functions or classes by file name in the folder ``kept``.

    Raises InputError for one whose source this process has not read.
    """
    files = {}
    for function in functions:
        module, _ = _parts(function.path)
        source = _sources.get((module, function.digest))
        if source is None:
            raise InputError(
                f"The source of {function.path!r} ({function.digest}) is not known.", "Make the samples again."
            )
        files[f"{kept}/{module}.py"] = source.text
    return files


def read_source_files(functions: Iterable[Function], folder: Path, kept: str = FUNCTIONS_FOLDER) -> None:
    """Make the sources known that ``source_files`` named and that stand in ``folder``."""
    for function in functions:
        module, _ = _parts(function.path)
        file = folder / kept / f"{module}.py"
        if file.is_file():
            _offer(module, file)


def _parts(path: str) -> tuple[str, str]:
    if not _PATH.fullmatch(path):
        raise InputError(f"{path!r} is not a function's path.", "Write `module:name`, such as `scores:distance`.")
    module, name = path.split(":")
    return module, name


def _locate(module: str, folder: Path | None) -> Path:
    """Return the file of a module's source; raises InputError."""
    if folder is not None:
        stem = folder.joinpath(*module.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    try:
        specification = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        specification = None
    origin = specification.origin if specification is not None else None
    if origin is None or not origin.endswith(".py"):
        where = f"{folder} and " if folder is not None else ""
        what = "is not there" if specification is None else "has no Python source"
        raise InputError(
            f"The module {module!r} {what}: looked in {where}the installed packages.",
            f"Write {module.replace('.', '/')}.py in the project's folder, or install it.",
        )
    return Path(origin)


def _offer(module: str, file: Path) -> str:
    """Make a module's source known; return its hash."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}.", "Restore it.") from error
    digest = hashlib.sha256(text).hexdigest()
    with _lock:
        _sources.setdefault((module, digest), _Source(text, str(file)))
    return digest


def _function(path: str, digest: str) -> UserFunction:
    module, name = _parts(path)
    loaded = _execute(module, digest)
    call = getattr(loaded, name, None)
    if not callable(call):
        what = "is not a function" if hasattr(loaded, name) else "is not there"
        names = [each for each, value in vars(loaded).items() if callable(value) and not each.startswith("_")]
        raise InputError(f"{path!r}: {name!r} {what}.", nearest(name, names))
    return UserFunction(path, digest, call)


def _execute(module: str, digest: str) -> ModuleType:
    """Return the module of a known source, executed once; its package, if it has one, is the installed one."""
    unique = f"{module}#{digest[:16]}"
    with _lock:
        if unique in sys.modules:
            return sys.modules[unique]
        source = _sources[module, digest]
        specification = importlib.util.spec_from_file_location(unique, source.file)
        assert specification is not None
        loaded = importlib.util.module_from_spec(specification)
        sys.modules[unique] = loaded
        try:
            exec(compile(source.text, source.file, "exec"), vars(loaded))
        except Exception as error:
            del sys.modules[unique]
            raise InputError(
                f"{source.file} cannot be executed: {type(error).__name__}: {error}.", "Correct it: run it by itself."
            ) from error
        return loaded
