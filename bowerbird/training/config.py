"""How a model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import msgspec

from bowerbird.errors import InputError
from bowerbird.models.zoo import nearest
from bowerbird.training.batches.open_source import Placement

Precision = Literal["float32", "bfloat16", "auto"]
Optimisation = Literal["adamw", "adam", "adagrad", "sgd"]
Schedule = Literal["cosine", "constant", "plateau"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Options of the trainer, alike for every PyTorch model."""

    epochs: int = 5
    batch_size: int = 1024
    learning_rate: float = 1e-3
    optimiser: Optimisation = "adamw"
    """Of dense parameters and of tables kept in PyTorch; ``adam`` with ``table_l2`` is what published tables use."""
    weight_decay: float = 0.01
    """Decoupled L2 on dense matrices (Loshchilov and Hutter, 2019); of ``adamw`` alone."""
    embedding_decay: float = 0.01
    """Decoupled L2 on whole tables at each step; native tables have none; of ``adamw`` alone."""
    table_l2: float = 0.0
    """λ of λ/2 ‖W‖² over whole tables in each step's loss, before clipping; native tables have their own ``l2``."""
    dense_l2: float = 0.0
    """λ of the same over all other parameters."""
    schedule: Schedule = "cosine"
    """The learning rate's course: ``plateau`` multiplies it by ``plateau_factor`` at an evaluation without progress."""
    plateau_factor: float = 0.1
    least_rate: float = 1e-6
    """What ``plateau`` never goes below."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises; at most a quarter of all."""
    clip_norm: float = 1.0
    """Largest norm of all dense gradients together; 0 does not clip."""
    average: float = 0.998
    """Decay of the exponential average of the weights, which is what is evaluated and kept; 0 for none."""
    metric: Literal["auc", "log_loss"] = "auc"
    """What early stopping watches on validation, averaged over tasks."""
    patience: int = 2
    """Evaluations without improvement before training stops."""
    evaluations_per_epoch: int = 1
    checkpoint_steps: int = 1000
    precision: Precision = "auto"
    """Arithmetic of the dense part; ``auto`` measures and takes bfloat16 where it is clearly faster."""
    shuffle: bool = True
    """False trains in time order."""
    placement: Placement = "auto"
    """Hold training samples in memory or stream them; ``auto`` streams what does not fit ``memory_bytes``."""
    memory_bytes: int | None = None
    """Memory for training samples; half of the machine's where it is not given."""
    ahead: int = 2
    """Batches that a thread gathers ahead."""
    task_weights: dict[str, float] = field(default_factory=dict)
    """Factor on each task's loss; 1 where absent."""
    uncertainty_weights: bool = False
    """Learn each task's factor with the model (Kendall et al., 2018), on top of ``task_weights``."""
    base_rate_start: bool = True
    """Begin the tasks' biases at their base rates; false begins them where the model does."""
    linear_start: Literal["default", "xavier_normal"] = "default"
    """How the matrices of plain linear layers begin (Glorot and Bengio, 2010); their biases then begin at zero."""


MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "lr": {"learning_rate": 0.02, "embedding_decay": 0.001, "weight_decay": 0.0},
}
"""Options that suit a model better than the trainer's own defaults."""


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration dataclass as JSON's plain data, defaults included, so that a record is complete."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(asdict(config)))
    return values


def trainer_config(values: Mapping[str, Any]) -> TrainerConfig:
    """Return a trainer's configuration from plain data; raises InputError for an unknown option or value."""
    options = [item.name for item in fields(TrainerConfig)]
    for option in values:
        if option not in options:
            raise InputError(f"The trainer has no option {option!r}.", nearest(option, options))
    try:
        config = msgspec.convert(dict(values), TrainerConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"An option of the trainer has a wrong value: {error}.") from error
    if not config.learning_rate > 0:
        raise InputError(f"The trainer's learning_rate is {config.learning_rate}.", "Use more than 0.")
    return config
