"""Arbitrary input over a real socket: no status 500, no answer that the API's own page does not describe."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.process import ServerProcess

SLOW = ("/v1/features", "/v1/features/{name}", "/v1/exposures/{id}/explain", "/docs", "/openapi.json", "/metrics")
"""Answers of child processes, and pages that take no input."""
schemathesis.checks.load_all_checks()
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in ("not_a_server_error", "response_schema_conformance", "content_type_conformance")
]
PATHS = ["/v1/scenes/home/score", "/v1/scenes/home/recommend", "/v1/events"]
_shared = settings(suppress_health_check=list(HealthCheck))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
near_bodies = st.fixed_dictionaries(
    {},
    optional={
        "user": st.integers(-3, 25) | values,
        "candidates": st.lists(
            st.sampled_from(["i1", "i2", ""]) | scalars | st.fixed_dictionaries({"id": scalars, "features": values}),
            max_size=5,
        ),
        "context": st.dictionaries(st.sampled_from(["page", "speed", "x"]), values, max_size=3) | values,
        "features": st.dictionaries(st.sampled_from(["price", "history", "genre", "x"]), values, max_size=3) | values,
        "count": st.integers() | values,
        "exclude": st.lists(scalars, max_size=3) | values,
        "type": st.sampled_from(["click", "order", "exposure", "users"]) | values,
        "item": st.sampled_from(["i1", "i2"]) | values,
        "id": values,
        "time": values,
        "events": st.lists(values, max_size=3) | values,
    },
)


def check_api(server: ServerProcess, examples: int) -> None:
    """Try every operation of the API's page with inputs that it allows and some that it does not."""
    document = httpx.get(server.address + "/openapi.json", trust_env=False, timeout=30).json()
    for path in SLOW:
        document["paths"].pop(path)
    operations = list(schemathesis.openapi.from_dict(document).get_all_operations())
    assert len(operations) > 8
    for each in operations:

        @settings(_shared, max_examples=examples)
        @given(case=each.ok().as_strategy())
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=server.address, checks=CHECKS)

        check()


def test_the_api_is_what_its_page_says(shared: ServerProcess) -> None:
    check_api(shared, 15)


@pytest.mark.slow
def test_the_api_is_what_its_page_says_at_length(shared: ServerProcess) -> None:
    check_api(shared, 500)


@settings(_shared, max_examples=100)
@given(path=st.sampled_from(PATHS), body=near_bodies | values)
def test_any_json_is_answered_or_refused(shared: ServerProcess, path: str, body: object) -> None:
    answer = httpx.post(shared.address + path, content=json.dumps(body), trust_env=False, timeout=30)
    assert answer.status_code in (200, 422), answer.text


@settings(_shared, max_examples=50)
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=60))
def test_any_bytes_are_refused(shared: ServerProcess, path: str, body: bytes) -> None:
    answer = httpx.post(shared.address + path, content=body, trust_env=False, timeout=30)
    assert answer.status_code == 422
    assert answer.json()["code"] == "input"


@settings(_shared, max_examples=50)
@given(
    line=st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST /v1/events HTTP/1.1\r\nhost: x\r\n"]),
    rest=st.binary(max_size=80),
)
def test_bytes_that_are_no_http_do_no_harm(shared: ServerProcess, line: bytes, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as connection:
        connection.sendall(line + rest)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 500")
    assert httpx.get(shared.address + "/healthz", trust_env=False, timeout=30).status_code == 200
