"""The collection and the dense module as one thing to train, store and evaluate."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.bundles.arrays import AnyArray
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.rows import RowBlock
from bowerbird.models.ranker import Ranker
from bowerbird.training.encoded import EncodedSamples

_EVALUATION_ROWS = 4096


class Network(nn.Module):
    """Tables and a dense module; ``forward`` returns the trained logits, [rows, members] by task."""

    def __init__(self, collection: EmbeddingCollection, model: Ranker) -> None:
        super().__init__()
        self.collection = collection
        self.model = model

    def forward(self, rows: RowBlock) -> dict[str, Tensor]:
        """Return logits [rows, members] by task."""
        return self.model.members(self.collection(rows))

    def arrays(self) -> dict[str, AnyArray]:
        """Return copies of all parameters and buffers by name."""
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}

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
