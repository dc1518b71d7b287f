"""Models: plain PyTorch over embedded tensors, one file each."""

from bowerbird.models.ranker import Ranker, RankerConfig
from bowerbird.models.task import Task, tasks_of
from bowerbird.models.zoo import MODELS, model_config

__all__ = ["MODELS", "Ranker", "RankerConfig", "Task", "model_config", "tasks_of"]
