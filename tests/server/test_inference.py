"""The Open Inference Protocol, asked by Triton's own clients and by hand."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.server.inference.grpc_messages import MESSAGES
from bowerbird.server.web.access import KeyStore
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess
from tests.server.tiny import make_live

CLOCK = 1e-6
"""How far two answers may lie apart because the clock went on between them: ages are features."""
ITEMS = [f"i{number}" for number in range(7)]
INFER = "/v2/models/home/infer"


@pytest.fixture(scope="module")
def server(template: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("inference") / "tiny"
    shutil.copytree(template.folder, folder)
    workspace = load_workspace(folder)
    make_live(workspace, 1)
    with ServerProcess(workspace, "--grpc-port", "0") as process:
        yield process


@pytest.fixture(params=[triton_http, triton_grpc], ids=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[tuple[Any, Any]]:
    """Triton's module for a protocol, and a client of it."""
    module = request.param
    if module is triton_http:
        address = server.address.removeprefix("http://")
    else:
        address = next(line for line in server.said if "gRPC" in line).rsplit(" ", 1)[1].rstrip(".")
    client = module.InferenceServerClient(address)
    yield module, client
    client.close()


def tensors(module: Any, given: dict[str, np.ndarray], binary: bool = True) -> list[Any]:
    names = {"i": "INT64", "f": "FP32", "b": "BOOL", "O": "BYTES"}
    made = []
    for name, values in given.items():
        datatype = "FP64" if values.dtype == np.float64 else names[values.dtype.kind]
        tensor = module.InferInput(name, list(values.shape), datatype)
        if module is triton_http:
            tensor.set_data_from_numpy(values, binary_data=binary)
        else:
            tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def asked(**more: Any) -> dict[str, np.ndarray]:
    given = {"user": np.array([3]), "candidates": np.array(ITEMS, object)}
    return given | {name.replace("_dot_", "."): np.array(value) for name, value in more.items()}


def test_health_and_metadata(triton: tuple[Any, Any]) -> None:
    _, client = triton
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("home") and client.is_model_ready("home", "1")
    assert not client.is_model_ready("hoem") and not client.is_model_ready("home", "2")
    server, model = client.get_server_metadata(), client.get_model_metadata("home")
    if not isinstance(model, dict):
        server, model = ({"name": server.name, "extensions": list(server.extensions)}, _as_dict(model))
    assert (server["name"], server["extensions"]) == ("bowerbird", ["binary_tensor_data"])
    assert (model["name"], model["versions"]) == ("home", ["1"])
    inputs = {each["name"]: (each["datatype"], list(each["shape"])) for each in model["inputs"]}
    assert list(inputs)[:2] == ["user", "candidates"]
    assert inputs["user"] == ("INT64", [1]) and inputs["candidates"] == ("BYTES", [-1])
    assert inputs["context.page"] == ("INT64", [1]) and inputs["context.speed"] == ("FP32", [1])
    assert inputs["features.price"] == ("FP32", [-1]) and inputs["features.genre"] == ("BYTES", [-1])
    assert not {"features.history", "features.hour"} & set(inputs)
    assert [each["name"] for each in model["outputs"]] == ["scores.click", "scores.order", "ranking"]


def _as_dict(model: Any) -> dict[str, Any]:
    def listed(tensors: Any) -> list[dict[str, Any]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": each.shape} for each in tensors]

    return {
        "name": model.name, "versions": list(model.versions),
        "inputs": listed(model.inputs), "outputs": listed(model.outputs),
    }  # fmt: skip


def test_scores_are_those_of_the_rest_api(server: ServerProcess, triton: tuple[Any, Any]) -> None:
    module, client = triton
    given = asked(context_dot_page=[1], context_dot_speed=np.array([0.5], np.float32))
    given["features.price"] = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0, 7.0], np.float32)
    given["features.genre"] = np.array(["g2"], object)
    found = client.infer("home", tensors(module, given), request_id="r1")
    candidates = [
        {"id": item, "features": {"price": None if np.isnan(price) else float(price)}}
        for item, price in zip(ITEMS, given["features.price"], strict=True)
    ]
    with server.client() as rest:
        wanted = rest.score("home", 3, candidates, context={"page": 1, "speed": 0.5}, features={"genre": "g2"})
    for name, values in {
        **{f"scores.{task}": each for task, each in wanted.scores.items()},
        "ranking": wanted.ranking,
    }.items():
        assert found.as_numpy(name).dtype == np.float32
        np.testing.assert_allclose(found.as_numpy(name), values, atol=3 * CLOCK)
    response = found.get_response()
    if isinstance(response, dict):
        assert response["id"] == "r1" and response["model_version"] == "1"
        slate_id = response["parameters"]["slate_id"]
    else:
        assert response.id == "r1" and response.model_version == "1"
        slate_id = response.parameters["slate_id"].string_param
    slate = next(each for each in iterate_slates(server.workspace.slates_folder) if each.slate_id == slate_id)
    assert (slate.user, slate.candidates, slate.given) == (3, ITEMS, {"genre": "g2"})
    assert slate.candidate_given[3] == {"price": 4.0} and slate.candidate_given[2] == {"price": None}


def test_outputs_may_be_chosen_and_json_is_as_good_as_bytes(server: ServerProcess, triton: tuple[Any, Any]) -> None:
    module, client = triton
    wanted = [module.InferRequestedOutput("scores.order")]
    found = client.infer("home", tensors(module, asked()), outputs=wanted, model_version="1")
    assert found.as_numpy("ranking") is None
    body = {
        "inputs": [
            {"name": "user", "shape": [1], "datatype": "INT64", "data": [3]},
            {"name": "candidates", "shape": [7], "datatype": "BYTES", "data": [ITEMS[:3], ITEMS[3:]]},
        ],
        "outputs": [{"name": "scores.order"}],
    }
    plain = httpx.post(server.address + INFER, json=body, trust_env=False).json()
    assert plain["outputs"][0]["shape"] == [7] and plain["outputs"][0]["datatype"] == "FP32"
    np.testing.assert_allclose(found.as_numpy("scores.order"), plain["outputs"][0]["data"], atol=CLOCK)


def test_grpc_takes_typed_contents_and_answers_with_them(server: ServerProcess) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="home")
    request.inputs.add(name="user", datatype="INT32", shape=[1]).contents.int_contents.append(3)
    candidates = request.inputs.add(name="candidates", datatype="BYTES", shape=[2])
    candidates.contents.bytes_contents.extend([b"i1", b"i2"])
    address = next(line for line in server.said if "gRPC" in line).rsplit(" ", 1)[1].rstrip(".")
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )
        found = infer(request, timeout=60)
    assert [each.name for each in found.outputs] == ["scores.click", "scores.order", "ranking"]
    assert len(found.outputs[0].contents.fp32_contents) == 2 and not found.raw_output_contents


MISTAKES = [
    (asked(usr=[3]), "no input 'usr'. Did you mean 'user'"),
    ({"candidates": np.array(ITEMS, object)}, "no input 'user'"),
    (asked(user=[3, 4]), r"shape \[2\]. It is \[1\]"),
    (asked(user=np.array([3.0], np.float32)), "datatype FP32. Send INT64"),
    (asked(candidates=[1, 2]), "datatype INT64. Send BYTES"),
    (asked(candidates=np.array([["i1"]], object)), r"shape \[1, 1\]. It is \[n\]"),
    (asked(features_dot_price=np.array([1.0, 2.0], np.float32)), r"shape \[2\]. It is \[7\], or \[1\]"),
    (asked(features_dot_price=np.array([np.inf], np.float32)), "holds inf"),
    (asked(features_dot_prise=np.array([1.0], np.float32)), "Did you mean 'features.price'"),
    (asked(features_dot_user=[1] * 7), "belongs to the request"),
    (asked(features_dot_hour=[1]), "no input 'features.hour'"),
    (asked(context_dot_page=np.array(["first"], object)), "datatype BYTES. Send INT64"),
    (asked(candidates=np.array(["i1"] * 5001, object)), "5,001 candidates"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_mistakes_are_named(triton: tuple[Any, Any], given: dict[str, np.ndarray], message: str) -> None:
    module, client = triton
    with pytest.raises(InferenceServerException, match=message) as raised:
        client.infer("home", tensors(module, given))
    assert raised.value.status() in ("422", "StatusCode.INVALID_ARGUMENT")


def test_names_that_do_not_exist(triton: tuple[Any, Any]) -> None:
    module, client = triton
    for model, version, message in [("hoem", "", "Did you mean 'home'"), ("home", "7", "answered by version 1")]:
        with pytest.raises(InferenceServerException, match=message) as raised:
            client.infer(model, tensors(module, asked()), model_version=version)
        assert raised.value.status() in ("404", "StatusCode.NOT_FOUND")
    with pytest.raises(InferenceServerException, match=r"no output 'scores.clck'. Did you mean 'scores.click'"):
        client.infer("home", tensors(module, asked()), outputs=[module.InferRequestedOutput("scores.clck")])


@pytest.mark.parametrize(
    ("inputs", "blob", "header", "message"),
    [
        ([("user", "INT64", [1], 8)], b"\3" * 4, None, "binary_data_size 8; 4 bytes are left"),
        ([("user", "INT64", [1], 4)], b"\3" * 4, None, "4 bytes. A value of INT64 has 8"),
        ([("user", "INT64", [1], 8)], b"\3" * 9, None, "1 bytes follow the last tensor"),
        ([("user", "INT64", [2], 8)], b"\3" * 8, None, "shape [2] and 1 values"),
        ([("user", "INT64", [-1], 8)], b"\3" * 8, None, "shape [-1]"),
        ([("user", "INT65", [1], 8)], b"\3" * 8, None, "datatype 'INT65'"),
        ([("candidates", "BYTES", [1], 5)], b"\2\0\0\0i", None, "ends within a text, at byte 0"),
        ([("candidates", "BYTES", [1], 5)], b"\1\0\0\0\xff", None, "not UTF-8"),
        ([("user", "INT64", [1], -8)], b"", None, "binary_data_size -8"),
        ([], b"", "9999999", "is '9999999'"),
        ([], b"", "-1", "is '-1'"),
    ],
)
def test_binary_bodies_that_disagree_with_themselves(
    server: ServerProcess, inputs: list[Any], blob: bytes, header: str | None, message: str
) -> None:
    listed = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, kind, shape, size in inputs
    ]
    text = json.dumps({"inputs": listed}).encode()
    headers = {"inference-header-content-length": header or str(len(text))}
    found = httpx.post(server.address + INFER, content=text + blob, headers=headers, trust_env=False)
    assert found.status_code == 422 and set(found.json()) == {"error"}
    assert message in found.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"{}", "inputs"),
        (b'{"inputs": [{"name": "user", "shape": [1], "datatype": "INT64", "data": [3.5]}]}', "holds 3.5"),
        (b'{"inputs": [{"name": "user", "shape": [1], "datatype": "INT64", "data": [true]}]}', "holds True"),
        (b'{"inputs": [{"name": "user", "shape": [2], "datatype": "INT64", "data": [[1], 2]}]}', "nested unevenly"),
        (b'{"inputs": [{"name": "user", "shape": [1], "datatype": "INT64"}]}', "0 values"),
        (b'{"inputs": [], "parameters": {"model": 3}}', "'model' is 3"),
        (b'{"inputs": [], "parameters": {"model": "dinn"}}', "Did you mean 'din'"),
    ],
)
def test_json_that_is_no_request(server: ServerProcess, body: bytes, message: str) -> None:
    found = httpx.post(server.address + INFER, content=body, trust_env=False)
    assert found.status_code in (404, 422) and set(found.json()) == {"error"}
    assert message in found.json()["error"]


def test_keys_are_asked_for(server: ServerProcess, triton: tuple[Any, Any]) -> None:
    module, client = triton
    store = KeyStore(server.workspace.keys_file)
    key = store.create("triton", ["read"])
    try:
        time.sleep(1.2)
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="no API key") as raised:
            client.infer("home", tensors(module, asked()))
        assert raised.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
        headers = {"authorization": f"Bearer {key}"}
        assert client.infer("home", tensors(module, asked()), headers=headers).as_numpy("ranking").shape == (7,)
    finally:
        store.revoke("triton")
        time.sleep(1.2)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_messages_are_those_of_the_public_definition(name: str) -> None:
    """Triton's generated code is another reading of the same specification."""
    ours, theirs = MESSAGES[name].DESCRIPTOR, service_pb2.DESCRIPTOR
    outer, *inner = name.split(".")
    theirs = theirs.message_types_by_name[outer]
    for part in inner:
        theirs = theirs.nested_types_by_name[part]
    for field in ours.fields:
        peer = theirs.fields_by_name[field.name]
        assert (peer.number, peer.type, peer.is_repeated) == (field.number, field.type, field.is_repeated)
        if field.message_type is not None:
            assert peer.message_type.full_name == field.message_type.full_name
