"""The collection and the dense module as one thing to train, store and evaluate."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.bundles.arrays import AnyArray
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.rows import RowBlock
from bowerbird.models.ranker import Ranker, Targets, TrainingPass
from bowerbird.training.batches.encoded import EncodedSamples
from bowerbird.training.losses import TaskWeighting, task_losses

_EVALUATION_ROWS = 4096


class Network(nn.Module):
    """Tables and a dense module; ``forward`` returns the logits of a training step."""

    def __init__(self, collection: EmbeddingCollection, model: Ranker, weighting: TaskWeighting | None = None) -> None:
        super().__init__()
        self.collection = collection
        self.model = model
        self.weighting = weighting or TaskWeighting((), {}, learned=False)

    def forward(self, rows: RowBlock) -> TrainingPass:
        """Return logits [rows, members] by task, and what the model's own loss needs."""
        return self.model.training_pass(self.collection(rows))

    def loss(self, done: TrainingPass, targets: Targets) -> Tensor:
        """Return the scalar loss of a pass: the tasks' weighted losses and the model's own."""
        loss: Tensor = self.weighting(task_losses(done.logits, targets))
        return loss + self.model.auxiliary_loss(done, targets)

    def arrays(self) -> dict[str, AnyArray]:
        """Return copies of all parameters and buffers by name."""
        return {name: value.copy() for name, value in self.views().items()}

    def views(self) -> dict[str, AnyArray]:
        """Return all parameters and buffers by name, their memory shared."""
        return {name: value.detach().numpy() for name, value in self.state_dict().items()}

    def load_arrays(self, arrays: dict[str, AnyArray]) -> None:
        """Set all parameters and buffers by name; shapes must agree."""
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})

    def logits(self, samples: EncodedSamples) -> dict[str, AnyArray]:
        """Return logits float32 [rows] by task in evaluation mode and float32 arithmetic."""
        order = np.arange(len(samples))
        training = self.training
        self.eval()
        parts: dict[str, list[AnyArray]] = {task.name: [] for task in self.model.tasks}
        with torch.inference_mode():
            for batch in samples.batches(order, _EVALUATION_ROWS):
                for task, values in self.model(self.collection(batch.rows)).items():
                    parts[task].append(values.float().numpy())
        self.train(training)
        return {task: np.concatenate(values) for task, values in parts.items()}
