"""Proves that the models compared on Frappe are the same functions as FuxiCTR's: its weights in ours, logits alike.

    python -m bench.training.equal [MODEL ...]

Each model is made at BARS's settings (bench/training/frappe_settings.py) with random weights, copied into ours, and
both answer for the same random ids. In evaluation mode the logits must agree within 1e-5; in training mode, without
dropout, so must the loss, which covers batch norm's statistics and FinalNet's distillation. Needs
bench/peers/fuxictr.sh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.common import WORK, Row, write
from bench.peers.fuxictr_weights import COPIES, Weights
from bench.training.frappe_settings import SETTINGS, Setting
from bowerbird.embedding.inputs import CategoryInput, Inputs
from bowerbird.models import Task, model_config
from bowerbird.models.ranker import Ranker, Targets
from bowerbird.training.losses import task_losses

SIZES = {
    "user": 956, "item": 4084, "daytime": 9, "weekday": 9, "isweekend": 4, "homework": 5, "cost": 4, "weather": 11,
    "country": 82, "city": 235,
}  # fmt: skip
"""Rows of Frappe's tables, with padding and unseen."""
TOLERANCE = 1e-5
_FOLDERS = {"DeepFM": "DeepFM/DeepFM_torch"}
_SCRIPT = Path(__file__).parents[1] / "peers" / "fuxictr_logits.py"
_NO_DROPOUT = {"net_dropout": 0, "mlp1_dropout": 0, "mlp2_dropout": 0, "block1_dropout": 0, "block2_dropout": 0}
_OURS_NO_DROPOUT = {"dropout": 0.0, "first_dropout": 0.0, "second_dropout": 0.0}


def theirs(setting: Setting) -> Weights:
    """Return the weights, ids and answers of FuxiCTR's model."""
    python, zoo = WORK / "fuxictr-venv" / "bin" / "python", WORK / "fuxictr-zoo" / "model_zoo"
    if not python.exists() or not zoo.is_dir():
        raise SystemExit("FuxiCTR is not there. Make its environment with: bench/peers/fuxictr.sh")
    scratch = WORK / "fuxictr-runs"
    scratch.mkdir(parents=True, exist_ok=True)
    dropout = {name: value for name, value in _NO_DROPOUT.items() if name in setting.fuxictr}
    params = {
        **setting.fuxictr, **dropout, "optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"],
        "task": "binary_classification", "model_root": str(scratch), "verbose": 0, "gpu": -1, "seed": 7,
        "learning_rate": 1e-3, "monitor": "AUC", "monitor_mode": "max", "model_id": "equal",
    }  # fmt: skip
    folder = zoo / _FOLDERS.get(setting.fuxictr_model, setting.fuxictr_model)
    content = {"model": setting.fuxictr_model, "model_folder": str(folder), "sizes": SIZES, "params": params}
    specification, result = scratch / "equal.json", scratch / "equal.npz"
    specification.write_text(json.dumps(content))
    subprocess.run([python, _SCRIPT, specification, result], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with np.load(result) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def ours(setting: Setting) -> Ranker:
    """Return our model of the same settings, without dropout."""
    config = setting.ours
    width = config["dimension"]
    categories = tuple(CategoryInput(name, name, setting.dimensions.get(name, width), "request") for name in SIZES)
    known = model_config(setting.model, config).__dataclass_fields__  # type: ignore[attr-defined]
    dropout = {name: value for name, value in _OURS_NO_DROPOUT.items() if name in known}
    return model_config(setting.model, {**config, **dropout}).build(Inputs(categories, (), ()), (Task("label"),))


def rows_of(weights: Weights, inputs: Inputs) -> dict[str, Tensor]:
    """Return each field's row as ours holds it: factors, then what FuxiCTR keeps in tables of their own."""
    features = {}
    for item in inputs.categories:
        ids = weights[f"id/{item.name}"]
        suffix = f"embedding_layers.{item.name}.weight"
        tables = [value[ids] for name, value in weights.items() if name.endswith(suffix)]
        features[item.name] = torch.cat(sorted(tables, key=lambda rows: -rows.shape[1]), dim=1)
        if features[item.name].shape[1] != item.dimension:
            raise SystemExit(f"{item.name}: {features[item.name].shape[1]} columns, ours has {item.dimension}.")
    return features


def compare(setting: Setting) -> dict[str, Any]:
    """Return the largest difference of logits, of the loss, and both numbers of parameters."""
    weights, model = theirs(setting), ours(setting)
    with torch.no_grad():
        used = COPIES[setting.fuxictr_model](weights, model)
    left = {name for name in weights if name.startswith("weight/") and "embedding_layers" not in name} - used
    if any(not name.endswith("num_batches_tracked") for name in left):
        raise SystemExit(f"{setting.name}: FuxiCTR's weights {sorted(left)} are not copied.")
    features = rows_of(weights, model.inputs)
    with torch.inference_mode():
        logits = model.eval()(features)["label"]
    label = weights["label"]
    targets = Targets({"label": label}, torch.ones(len(label)), torch.zeros(len(label), dtype=torch.int64))
    done = model.train().training_pass(features)
    loss = task_losses(done.logits, targets)["label"] + model.auxiliary_loss(done, targets)
    tables = sum(SIZES[item.name] * item.dimension for item in model.inputs.categories)
    return {
        "model": setting.name,
        "logit_spread": float(logits.std()),
        "largest_logit_difference": float((logits - weights["logits"]).abs().max()),
        "loss_difference": abs(float(loss.detach()) - float(weights["loss"])),
        "their_parameters": int(weights["parameters"]),
        "our_parameters": tables + _count(model),
    }


def _count(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def _is_equal(result: dict[str, Any]) -> bool:
    return max(result["largest_logit_difference"], result["loss_difference"]) <= TOLERANCE


def _row(result: dict[str, Any]) -> Row:
    note = (
        f"logits' standard deviation {result['logit_spread']:.2f}; loss differs by {result['loss_difference']:.1e}; "
        f"{result['our_parameters']:,} parameters, FuxiCTR's {result['their_parameters']:,}"
    )
    case = f"{result['model']}: largest difference of logits, FuxiCTR's weights in ours"
    return Row(case, result["largest_logit_difference"], "logit", equal=_is_equal(result), note=note)


def main() -> None:
    """Compare and write ``bench/out/training_equal.json``; fails where a difference is too large."""
    torch.set_num_threads(1)
    results = [compare(SETTINGS[name]) for name in sys.argv[1:] or SETTINGS]
    for result in results:
        print(json.dumps(result))
    if not sys.argv[1:]:
        write("training_equal", [_row(result) for result in results])
    wrong = [result["model"] for result in results if not _is_equal(result)]
    if wrong:
        raise SystemExit(f"Not the same function: {', '.join(wrong)}.")


if __name__ == "__main__":
    main()
