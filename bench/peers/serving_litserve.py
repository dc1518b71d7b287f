"""LitServe: ``python serving_litserve.py PORT``. It reads annotations itself, so they are not postponed."""

import os
import sys
from typing import Any

import litserve
from serving_model import Model


class Api(litserve.LitAPI):
    """No batching: each request is whole."""

    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.model.answer(request)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    workers = int(os.environ["SERVING_PROCESSES"])
    server = litserve.LitServer(Api(api_path="/score"), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
