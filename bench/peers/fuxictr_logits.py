"""Logits of one of FuxiCTR's models with random weights; runs in the peer's own virtual environment.

    fuxictr-venv/bin/python bench/peers/fuxictr_logits.py SPECIFICATION.json RESULT.npz

The result holds every weight and statistic by name (``weight/<name>``), the ids drawn for each field
(``id/<field>``; of sequences, which are as long as each other, [rows, length] with 0 behind their last event), the
logits, the loss of one pass in training mode without dropout (``loss``) and the number of parameters.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap

ROWS = 500
_TUPLES = {"din_target_field", "din_sequence_field"}
Sizes = dict[str, int]


def _features(sizes: Sizes, shared: dict[str, str], length: int, dimension: int, folder: Path) -> FeatureMap:
    features = FeatureMap("equal", str(folder))
    common = {"source": "", "padding_idx": 0}
    features.features = OrderedDict(
        (name, {**common, "type": "categorical", "vocab_size": size}) for name, size in sizes.items()
    )
    for name, table in shared.items():
        features.features[name] = {
            **common, "type": "sequence", "share_embedding": table, "max_len": length, "vocab_size": sizes[table],
        }  # fmt: skip
    features.num_fields = len(features.features)
    features.labels = ["label"]
    features.default_emb_dim = dimension
    features.set_column_index()
    return features


def _randomise(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                spread = torch.rand(value.shape) + 0.5 if "running_var" in name else torch.randn(value.shape) * 0.2
                value.copy_(spread)


def _ids(sizes: Sizes, shared: dict[str, str], length: int) -> dict[str, torch.Tensor]:
    ids = {name: torch.randint(1, size, (ROWS,)) for name, size in sizes.items()}
    if shared:
        taken = torch.arange(length) < torch.randint(0, length + 1, (ROWS, 1))
        ids |= {name: torch.randint(1, sizes[table], (ROWS, length)) * taken for name, table in shared.items()}
    return ids


def _leave_out(model: torch.nn.Module, last: torch.nn.Module) -> None:
    """Put nothing in place of a model's last activation, wherever the model holds it."""
    for module in model.modules():
        for name, child in module.named_children():
            if child is last:
                setattr(module, name, torch.nn.Identity())


def main() -> None:
    specification: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, specification["model_folder"])
    model_class = getattr(importlib.import_module("src"), specification["model"])
    params = specification["params"]
    torch.manual_seed(params["seed"])
    for name in _TUPLES & params.keys():
        params[name] = [tuple(each) for each in params[name]]
    columns = specification["sizes"], specification["shared"], specification["length"]
    model = model_class(_features(*columns, params.get("embedding_dim", 1), Path(sys.argv[2]).parent), **params)
    _randomise(model)
    parameters = sum(value.numel() for value in model.parameters() if value.requires_grad)
    ids = _ids(*columns)
    weights = {f"weight/{name}": value.numpy().copy() for name, value in model.state_dict().items()}
    label = (torch.arange(ROWS) % 3 == 0).float().unsqueeze(1)
    loss = model.train().add_loss(model(ids), label)
    model.load_state_dict({name.removeprefix("weight/"): torch.from_numpy(value) for name, value in weights.items()})
    _leave_out(model, model.output_activation)
    with torch.inference_mode():
        logits = model.eval()(ids)["y_pred"].reshape(-1)
    np.savez(
        sys.argv[2],
        **weights,
        **{f"id/{name}": value.numpy() for name, value in ids.items()},
        logits=logits.numpy(),
        label=label.numpy().reshape(-1),
        loss=float(loss.detach()),
        parameters=parameters,
    )


if __name__ == "__main__":
    main()
