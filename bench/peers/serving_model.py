"""What every serving peer answers with: ONNX Runtime behind our JSON, its features ready-made in memory.

Features are found by the request's user: reading, computing or looking them up costs a peer nothing. The folder that
SERVING_CASES names holds ``model.onnx`` and ``USER.npz`` for each user.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Model:
    """Scores requests of one case on one thread."""

    def __init__(self) -> None:
        folder = Path(os.environ["SERVING_CASES"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tasks = [each.name.removeprefix("logits.") for each in self._session.get_outputs()]
        wanted = {each.name for each in self._session.get_inputs()}
        self._features = {}
        for file in folder.glob("*.npz"):
            with np.load(file) as arrays:
                self._features[file.stem] = {name: arrays[name] for name in arrays.files if name in wanted}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return logits by task, in the candidates' order."""
        features = self._features[str(request["user"])]
        logits = self._session.run(None, features)
        scores = {task: values.tolist() for task, values in zip(self._tasks, logits, strict=True)}
        assert len(scores[self._tasks[0]]) == len(request["candidates"])
        return {"scores": scores}
