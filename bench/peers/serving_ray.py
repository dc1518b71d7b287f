"""Ray Serve: ``python serving_ray.py PORT``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import ray
from ray import serve
from serving_model import Model
from starlette.requests import Request

REPLICAS = int(os.environ["SERVING_PROCESSES"])


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Score:
    """Replicas behind one proxy."""

    def __init__(self) -> None:
        self.model = Model()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return self.model.answer(await request.json())


if __name__ == "__main__":
    ray.init(num_cpus=2 * REPLICAS, include_dashboard=False, logging_level="warning", object_store_memory=200_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "location": "HeadOnly"})
    serve.run(Score.bind(), route_prefix="/score", logging_config={"enable_access_log": False})
    while True:
        time.sleep(60)
