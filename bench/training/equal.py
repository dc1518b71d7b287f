"""Proves that the models compared with FuxiCTR's are the same functions: its weights in ours, logits alike.

    python -m bench.training.equal [MODEL ...]

Each model on Frappe is made at BARS's settings (bench/training/frappe_settings.py), DIN as it is timed on KuaiRand
(bench/training/cases.py), with random weights, copied into ours, and both answer for the same random ids. In
evaluation mode the logits must agree within 1e-5; in training mode, without dropout, so must the loss, which covers
batch norm's statistics and FinalNet's distillation. Needs bench/peers/fuxictr.sh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.common import WORK, Row, write
from bench.peers.fuxictr_weights import COPIES, Weights
from bench.training import kuairand_din
from bench.training.cases import CASES, Case
from bench.training.frappe_settings import SETTINGS, Setting
from bowerbird.embedding.inputs import CategoryInput, Inputs, SequenceInput
from bowerbird.models import Task, model_config
from bowerbird.models.ranker import Ranker, Targets
from bowerbird.training.losses import task_losses

_FRAPPE_SIZES = {
    "user": 956, "item": 4084, "daytime": 9, "weekday": 9, "isweekend": 4, "homework": 5, "cost": 4, "weather": 11,
    "country": 82, "city": 235,
}  # fmt: skip
"""Rows of Frappe's tables, with padding and unseen."""
_KUAIRAND_SIZES = {
    "user": 24078, "video": 7485, "author": 6441, "tab": 17, "hour": 26, "weekday": 9, "duration_step": 19,
    "user_active_degree": 11, "video_type": 5, "upload_type": 14, "music_type": 8, "tag": 109,
}  # fmt: skip
_SEQUENCE = "history"
TOLERANCE = 1e-5
_FOLDERS = {"DeepFM": "DeepFM/DeepFM_torch"}
_SCRIPT = Path(__file__).parents[1] / "peers" / "fuxictr_logits.py"
_NO_DROPOUT = {"net_dropout": 0, "mlp1_dropout": 0, "mlp2_dropout": 0, "block1_dropout": 0, "block2_dropout": 0}
_OURS_NO_DROPOUT = {"dropout": 0.0, "first_dropout": 0.0, "second_dropout": 0.0}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model by both names with both sets of options, and its columns: ``sizes`` are their tables' rows.

    ``dimensions`` are widths of tables other than the model's; ``shared`` are parallel sequences of ``length`` events
    and whose table each reads; ``item`` are the candidate's columns.
    """

    name: str
    fuxictr_model: str
    fuxictr: dict[str, Any]
    model: str
    ours: dict[str, Any]
    sizes: dict[str, int]
    dimensions: dict[str, int] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    length: int = 0
    item: tuple[str, ...] = ()

    @property
    def inputs(self) -> Inputs:
        """What our model is given."""
        categories = tuple(
            CategoryInput(name, name, self._width(name), "item" if name in self.item else "request")
            for name in self.sizes
        )
        fields = tuple(
            CategoryInput(name, table, self._width(table), "request") for name, table in self.shared.items()
        )
        sequence = SequenceInput(_SEQUENCE, "request", self.length, fields, ())
        return Inputs(categories, (), (sequence,) if fields else ())

    def _width(self, table: str) -> int:
        width: int = self.dimensions.get(table, self.ours["dimension"])
        return width


def _on_frappe(setting: Setting) -> Subject:
    return Subject(
        name=setting.name, fuxictr_model=setting.fuxictr_model, fuxictr=setting.fuxictr, model=setting.model,
        ours=setting.ours, sizes=_FRAPPE_SIZES, dimensions=setting.dimensions,
    )  # fmt: skip


def _on_kuairand(case: Case) -> Subject:
    return Subject(
        name="DIN", fuxictr_model=case.fuxictr_model, fuxictr=case.fuxictr, model=case.model, ours=case.options,
        sizes=_KUAIRAND_SIZES, shared=kuairand_din.HISTORY, length=kuairand_din.LENGTH, item=kuairand_din.TARGETS,
    )  # fmt: skip


SUBJECTS = {name: _on_frappe(setting) for name, setting in SETTINGS.items()}
SUBJECTS["DIN"] = _on_kuairand(CASES["kuairand"])


def theirs(subject: Subject) -> Weights:
    """Return the weights, ids and answers of FuxiCTR's model."""
    python, zoo = WORK / "fuxictr-venv" / "bin" / "python", WORK / "fuxictr-zoo" / "model_zoo"
    if not python.exists() or not zoo.is_dir():
        raise SystemExit("FuxiCTR is not there. Make its environment with: bench/peers/fuxictr.sh")
    scratch = WORK / "fuxictr-runs"
    scratch.mkdir(parents=True, exist_ok=True)
    dropout = {name: value for name, value in _NO_DROPOUT.items() if name in subject.fuxictr}
    params = {
        **subject.fuxictr, **dropout, "optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"],
        "task": "binary_classification", "model_root": str(scratch), "verbose": 0, "gpu": -1, "seed": 7,
        "learning_rate": 1e-3, "monitor": "AUC", "monitor_mode": "max", "model_id": "equal",
    }  # fmt: skip
    content = {
        "model": subject.fuxictr_model, "params": params, "sizes": subject.sizes, "shared": subject.shared,
        "length": subject.length,
        "model_folder": str(zoo / _FOLDERS.get(subject.fuxictr_model, subject.fuxictr_model)),
    }  # fmt: skip
    specification, result = scratch / "equal.json", scratch / "equal.npz"
    specification.write_text(json.dumps(content))
    subprocess.run([python, _SCRIPT, specification, result], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with np.load(result) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def ours(subject: Subject) -> Ranker:
    """Return our model of the same settings, without dropout."""
    known = model_config(subject.model, subject.ours).__dataclass_fields__  # type: ignore[attr-defined]
    dropout = {name: value for name, value in _OURS_NO_DROPOUT.items() if name in known}
    return model_config(subject.model, {**subject.ours, **dropout}).build(subject.inputs, (Task("label"),))


def features_of(weights: Weights, inputs: Inputs) -> dict[str, Tensor]:
    """Return the features of the ids that FuxiCTR's model was asked about, as ours is given them."""
    features = {item.name: _rows(weights, item) for item in inputs.categories}
    for sequence in inputs.sequences:
        features |= {item.name: _rows(weights, item) for item in sequence.categories}
        mask = weights[f"id/{sequence.categories[0].name}"] != 0
        features |= {sequence.mask: mask, sequence.age: torch.zeros(mask.shape)}
    return features


def _rows(weights: Weights, item: CategoryInput) -> Tensor:
    """Return each row as ours holds it: factors, then what FuxiCTR keeps in tables of their own."""
    ids = weights[f"id/{item.name}"]
    suffix = f"embedding_layers.{item.vocabulary}.weight"
    tables = [value[ids] for name, value in weights.items() if name.endswith(suffix)]
    rows = torch.cat(sorted(tables, key=lambda each: -each.shape[-1]), dim=-1)
    if rows.shape[-1] != item.dimension:
        raise SystemExit(f"{item.name}: {rows.shape[-1]} columns, ours has {item.dimension}.")
    return rows


def compare(subject: Subject) -> dict[str, Any]:
    """Return the largest difference of logits, of the loss, and both numbers of parameters."""
    weights, model = theirs(subject), ours(subject)
    with torch.no_grad():
        used = COPIES[subject.fuxictr_model](weights, model)
    left = {name for name in weights if name.startswith("weight/") and "embedding_layers" not in name} - used
    if any(not name.endswith("num_batches_tracked") for name in left):
        raise SystemExit(f"{subject.name}: FuxiCTR's weights {sorted(left)} are not copied.")
    features = features_of(weights, model.inputs)
    with torch.inference_mode():
        logits = model.eval()(features)["label"]
    label = weights["label"]
    targets = Targets({"label": label}, torch.ones(len(label)), lambda: torch.zeros(len(label), dtype=torch.int64))
    done = model.train().training_pass(features)
    loss = task_losses(done.logits, targets)["label"] + model.auxiliary_loss(done, targets)
    tables = sum(subject.sizes[item.name] * item.dimension for item in model.inputs.categories)
    return {
        "model": subject.name,
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
    results = [compare(SUBJECTS[name]) for name in sys.argv[1:] or SUBJECTS]
    for result in results:
        print(json.dumps(result))
    if not sys.argv[1:]:
        write("training_equal", [_row(result) for result in results])
    wrong = [result["model"] for result in results if not _is_equal(result)]
    if wrong:
        raise SystemExit(f"Not the same function: {', '.join(wrong)}.")


if __name__ == "__main__":
    main()
