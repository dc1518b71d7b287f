"""BentoML: ``python -m bentoml serve serving_bentoml:Score --port PORT``."""

from __future__ import annotations

import os
from typing import Any

import bentoml
from serving_model import Model

WORKERS = int(os.environ["SERVING_PROCESSES"])


@bentoml.service(workers=WORKERS, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Score:
    """The body's fields are the method's parameters."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(route="/score")
    def score(self, user: int, candidates: list[int], context: dict[str, Any]) -> dict[str, Any]:
        return self.model.answer({"user": user, "candidates": candidates})
