"""What BARS trained Frappe_x1 with, model by model: for ours and for FuxiCTR.

From the logs of reczoo/BARS at 5b5e61f. The published figures are of the official training file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DIMENSION = 10
BATCH = 4096
LEARNING_RATE = 1e-3
EXACT: dict[str, Any] = {
    "optimiser": "adam", "schedule": "plateau", "warmup_steps": 0, "clip_norm": 10.0, "average": 0.0, "epochs": 100,
    "patience": 2, "base_rate_start": False, "linear_start": "xavier_normal", "precision": "float32",
}  # fmt: skip
"""What FuxiCTR does, in our trainer's words."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One model's settings. ``published`` are BARS's test AUC and log loss; ``table_l2`` is the regulariser λ of
    (λ/2)‖W‖² over the whole tables, ``dense_l2`` of all other parameters; ``fuxictr`` and ``ours`` are the model's
    options by each one's names. ``dimensions`` are the widths of tables whose rows serve a gate, too.
    """

    name: str
    published: tuple[float, float]
    table_l2: float
    dense_l2: float = 0.0
    fuxictr_model: str
    fuxictr: dict[str, Any]
    model: str
    ours: dict[str, Any]
    dimensions: dict[str, int] = field(default_factory=dict)

    @property
    def embedding(self) -> dict[str, Any]:
        """Our tables' options: a row for every value of the training rows, and BARS's start."""
        return {"minimum_count": 1, "initial_scale": 1e-4, "dimensions": self.dimensions}

    @property
    def trainer(self) -> dict[str, Any]:
        """Our trainer's options: the exact mode."""
        return {
            **EXACT, "learning_rate": LEARNING_RATE, "batch_size": BATCH, "table_l2": self.table_l2,
            "dense_l2": self.dense_l2,
        }  # fmt: skip


_TOWER = {"hidden": (400, 400, 400), "batch_norm": True}
_FUXI_DNN = {"dnn_hidden_units": [400, 400, 400], "dnn_activations": "relu", "batch_norm": True}

SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            name="LR",
            published=(0.9356, 0.3076),
            table_l2=1e-5,
            fuxictr_model="LR",
            dense_l2=1e-5,
            fuxictr={"regularizer": 1e-5},
            model="lr",
            ours={"dimension": 1, "own_weights": True},
        ),
        Setting(
            name="FM",
            published=(0.9671, 0.2065),
            table_l2=5e-6,
            fuxictr_model="FM",
            dense_l2=5e-6,
            fuxictr={"regularizer": 5e-6, "embedding_dim": DIMENSION},
            model="fm",
            ours={"dimension": DIMENSION + 1},
        ),
        Setting(
            name="DeepFM",
            published=(0.9842, 0.1482),
            table_l2=0.05,
            fuxictr_model="DeepFM",
            fuxictr={
                "embedding_regularizer": 0.05, "embedding_dim": DIMENSION, "hidden_units": [400, 400, 400],
                "hidden_activations": "relu", "batch_norm": True, "net_dropout": 0.2,
            },
            model="deepfm",
            ours={**_TOWER, "dimension": DIMENSION + 1, "own_weights": True, "dropout": 0.2},
        ),
        Setting(
            name="DCNv2",
            published=(0.9845, 0.1491),
            table_l2=0.05,
            fuxictr_model="DCNv2",
            fuxictr={
                "embedding_regularizer": 0.05, "embedding_dim": DIMENSION, "model_structure": "parallel",
                "num_cross_layers": 4, "parallel_dnn_hidden_units": [400, 400, 400], "dnn_activations": "relu",
                "batch_norm": True, "net_dropout": 0.4,
            },
            model="dcnv2",
            ours={**_TOWER, "dimension": DIMENSION, "dropout": 0.4, "crosses": 4, "rank": None},
        ),
        Setting(
            name="AutoInt+",
            published=(0.9848, 0.1490),
            table_l2=0.1,
            fuxictr_model="AutoInt",
            fuxictr={
                **_FUXI_DNN, "embedding_regularizer": 0.1, "embedding_dim": DIMENSION, "net_dropout": 0.1,
                "attention_layers": 5, "num_heads": 4, "attention_dim": 128, "layer_norm": True, "use_scale": True,
                "use_residual": True, "use_wide": False,
            },
            model="autoint",
            ours={
                **_TOWER, "dimension": DIMENSION, "dropout": 0.1, "layers": 5, "heads": 4, "attention": 128,
                "layer_norm": True,
            },
        ),
        Setting(
            name="FinalMLP",
            published=(0.9861, 0.1484),
            table_l2=0.05,
            fuxictr_model="FinalMLP",
            fuxictr={
                "embedding_regularizer": 0.05, "embedding_dim": DIMENSION, "num_heads": 5, "use_fs": True,
                "fs_hidden_units": [400], "fs1_context": ["user"], "fs2_context": ["item"],
                "mlp1_hidden_units": [400], "mlp1_hidden_activations": "relu", "mlp1_dropout": 0.4,
                "mlp1_batch_norm": True,
                "mlp2_hidden_units": [100], "mlp2_hidden_activations": "relu", "mlp2_dropout": 0.4,
                "mlp2_batch_norm": True,
            },
            model="finalmlp",
            ours={
                "dimension": DIMENSION, "first": [400], "second": [100], "first_dropout": 0.4, "second_dropout": 0.4,
                "batch_norm": True, "heads": 5, "gate_hidden": [400], "first_context": ["user"],
                "second_context": ["item"], "own_context": True,
            },
            dimensions={"user": 2 * DIMENSION, "item": 2 * DIMENSION},
        ),
        Setting(
            name="FinalNet",
            published=(0.9857, 0.1311),
            table_l2=0.1,
            fuxictr_model="FinalNet",
            fuxictr={
                "embedding_regularizer": 0.1, "embedding_dim": DIMENSION, "block_type": "2B", "batch_norm": True,
                "use_feature_gating": True, "residual_type": "concat",
                "block1_hidden_units": [400, 400], "block1_hidden_activations": "ReLU", "block1_dropout": 0.1,
                "block2_hidden_units": [400], "block2_hidden_activations": "ReLU", "block2_dropout": 0.1,
            },
            model="finalnet",
            ours={
                "dimension": DIMENSION, "first": [400, 400], "second": [400], "first_dropout": 0.1,
                "second_dropout": 0.1,
            },
        ),
    )
}  # fmt: skip
