"""The models by name, and their configurations from plain data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bowerbird.errors import InputError
from bowerbird.models.autoint import AutoInt
from bowerbird.models.bst import BST
from bowerbird.models.dcnv2 import DCNv2
from bowerbird.models.deepfm import DeepFM
from bowerbird.models.din import DIN
from bowerbird.models.esmm import ESMM
from bowerbird.models.finalmlp import FinalMLP
from bowerbird.models.finalnet import FinalNet
from bowerbird.models.fm import FM
from bowerbird.models.logistic import LogisticRegression
from bowerbird.models.mmoe import MMoE
from bowerbird.models.own import is_own, own_config
from bowerbird.models.ple import PLE
from bowerbird.models.ranker import RankerConfig
from bowerbird.models.tabm import TabM
from bowerbird.models.two_tower import TwoTower
from bowerbird.models.widedeep import WideDeep

MODELS: dict[str, type[RankerConfig]] = {
    "lr": LogisticRegression.Config,
    "fm": FM.Config,
    "widedeep": WideDeep.Config,
    "deepfm": DeepFM.Config,
    "dcnv2": DCNv2.Config,
    "autoint": AutoInt.Config,
    "finalmlp": FinalMLP.Config,
    "finalnet": FinalNet.Config,
    "din": DIN.Config,
    "bst": BST.Config,
    "tabm": TabM.Config,
    "esmm": ESMM.Config,
    "mmoe": MMoE.Config,
    "ple": PLE.Config,
    "two_tower": TwoTower.Config,
}


def model_config(name: str, values: Mapping[str, Any] | None = None, folder: Path | None = None) -> RankerConfig:
    """Return a model's configuration; raises InputError for an unknown model, option or value.

    ``name`` is one of MODELS, or a class of the user's own (``module:Class``, see ``own.py``), looked for in ``folder``
    and among the installed packages.
    """
    owner = _config_type(name, folder)
    options = list(owner.__dataclass_fields__)  # type: ignore[attr-defined]
    for option in values or {}:
        if option not in options:
            raise InputError(f"Model {name!r} has no option {option!r}.", nearest(option, options))
    try:
        config: RankerConfig = msgspec.convert(dict(values or {}), owner)
    except msgspec.ValidationError as error:
        raise InputError(f"An option of model {name!r} has a wrong value: {error}.") from error
    return config


def _config_type(name: str, folder: Path | None) -> type[RankerConfig]:
    if is_own(name):
        return own_config(name, folder)
    if name not in MODELS:
        raise InputError(f"There is no model {name!r}.", nearest(name, list(MODELS)))
    return MODELS[name]


def nearest(name: str, known: list[str]) -> str:
    """Return a remedy that names the nearest known name, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
