"""A user's own model: a class found by import path and pinned to the hash of its source.

``module:Class`` names it; ``module:Class@<SHA-256>`` is what a run records, so that another version of the source is
not taken for it. A bundle holds the row graph, and needs neither.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

from bowerbird.errors import InputError
from bowerbird.models.ranker import Ranker, RankerConfig
from bowerbird.plan.spec import Function
from bowerbird.plan.user_code import UserFunction, load_function, read_source_files, resolve_function, source_files

MODELS_FOLDER = "models"
"""Where a run keeps the source of its model."""


def is_own(name: str) -> bool:
    """Return whether a model's name is an import path."""
    return ":" in name


def pinned_name(name: str, folder: Path | None = None) -> str:
    """Return the name with its source's hash, ``module:Class@<SHA-256>``; a name of the zoo is returned as it is.

    The module is looked for in ``folder``, then among the installed packages. Raises InputError as ``own_config``.
    """
    if not is_own(name):
        return name
    loaded = _load(name, folder)
    _check(loaded)
    return f"{loaded.path}@{loaded.digest}"


def label_of(name: str) -> str:
    """Return a name fit for a file's: an own model's class."""
    return name.partition("@")[0].rpartition(":")[2]


def own_config(name: str, folder: Path | None = None) -> type[RankerConfig]:
    """Return the ``Config`` of a user's class.

    Raises InputError where the module or class is not there or not a model, or where the source has another hash.
    """
    return _check(_load(name, folder))


def model_files(name: str) -> dict[str, bytes]:
    """Return the source of a pinned model by file name, to be kept with its run; nothing for a model of the zoo."""
    return source_files([_pin(name)], MODELS_FOLDER) if is_own(name) else {}


def read_model_files(name: str, folder: Path) -> None:
    """Make the source known that ``model_files`` put in a run's folder, whatever the workspace's has become."""
    if is_own(name):
        read_source_files([_pin(name)], folder, MODELS_FOLDER)


def _pin(name: str) -> Function:
    path, _, digest = name.partition("@")
    return Function(path, digest)


def _load(name: str, folder: Path | None) -> UserFunction:
    function = _pin(name)
    return resolve_function(function, folder) if function.digest else load_function(function.path, folder)


def _check(loaded: UserFunction) -> type[RankerConfig]:
    owner = loaded.call
    if not (isinstance(owner, type) and issubclass(owner, Ranker)):
        raise InputError(f"{loaded.path!r} is not a model.", "Make it a subclass of bowerbird.models.Ranker.")
    config = getattr(owner, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise InputError(f"{loaded.path!r} has no Config.", "Nest a dataclass of that name, with its options.")
    if "dimension" not in config.__dataclass_fields__ or not callable(getattr(config, "build", None)):
        raise InputError(
            f"The Config of {loaded.path!r} lacks `dimension` or `build`.",
            "Give it the width of embeddings, and build(inputs, tasks), which returns the model.",
        )
    return cast(type[RankerConfig], config)
