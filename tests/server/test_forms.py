"""What errors look like by route, and that the API's description says so; a server that has not started is enough."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from bowerbird.declare.workspace import load_workspace
from bowerbird.server.build import build_application
from bowerbird.server.services import Services
from tests.server.process import ROOT


@pytest.fixture(scope="module")
def get() -> Any:
    services = Services(load_workspace(ROOT / "examples" / "movielens"))
    transport = httpx.ASGITransport(app=build_application(services))

    def ask(path: str, method: str = "GET") -> httpx.Response:
        async def run() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path)

        return asyncio.run(run())

    yield ask
    services.pool.close()


def test_the_inference_protocol_has_errors_of_its_own(get: Any) -> None:
    assert get("/v2").json()["name"] == "bowerbird"
    assert get("/v2/health/live").json() == {"live": True}
    assert (get("/v2/health/ready").status_code, get("/v2/health/ready").json()) == (503, {"ready": False})
    for path, method in [
        ("/v2/models/feed", "GET"),
        ("/v2/models/feed/ready", "GET"),
        ("/v2/models/feed/infer", "POST"),
    ]:
        found = get(path, method)
        assert (found.status_code, set(found.json()), found.headers["retry-after"]) == (503, {"error"}, "1")
        assert found.headers["content-type"] == "application/json"


def test_rest_errors_stay_problems(get: Any) -> None:
    for path in ("/v1/plan", "/v3", "/v2/models"):
        assert get(path).headers["content-type"] == "application/problem+json"


def test_the_description_tells_them_apart(get: Any) -> None:
    paths = get("/openapi.json").json()["paths"]
    infer = paths["/v2/models/{model}/infer"]["post"]["responses"]["default"]["content"]
    score = paths["/v1/scenes/{scene}/score"]["post"]["responses"]["default"]["content"]
    assert infer["application/json"]["schema"]["$ref"].endswith("ErrorAnswer")
    assert score["application/problem+json"]["schema"]["$ref"].endswith("ProblemDocument")
