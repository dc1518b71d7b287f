"""What backends keep: a second start compiles and converts nothing, other weights are never mistaken; and refusals."""

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from bowerbird.compiler.backends.graph_module import content_digest
from bowerbird.compiler.backends.inductor import Inductor
from bowerbird.compiler.backends.openvino import OpenVino
from bowerbird.compiler.staging import compile_module
from bowerbird.errors import InputError, MissingExtraError

STAGES = {"user": "request", "item": "item"}
WITH_OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
BACKENDS = [
    pytest.param(OpenVino(), "openvino.convert_model", marks=WITH_OPENVINO),
    pytest.param(Inductor(), "torch._inductor.aoti_compile_and_package", marks=pytest.mark.slow),
]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 1)

    def forward(self, features):
        hidden = torch.relu(self.first(torch.cat([features["user"], features["item"]], dim=-1)))
        return {"click": self.last(hidden).squeeze(-1)}


def small(seed=0):
    torch.manual_seed(seed)
    module = Small().eval()
    return module, compile_module(module, {"user": torch.randn(4, 4), "item": torch.randn(4, 4)}, STAGES).program


def differs(module, prepared, rows):
    features = {"user": torch.randn(1, 4), "item": torch.randn(rows, 4)}
    with torch.inference_mode():
        expected = module({name: value.expand(rows, -1) for name, value in features.items()})["click"]
    return float((prepared(features, rows)["click"] - expected).abs().max())


@pytest.mark.parametrize(("backend", "compiles"), BACKENDS, ids=["openvino", "inductor"])
def test_a_second_start_compiles_nothing_and_other_weights_do(backend, compiles, tmp_path, monkeypatch):
    module, program = small()
    backend.prepare(program, "fp32", tmp_path)
    kept = sorted(tmp_path.iterdir())
    other, changed = small(seed=1)
    assert differs(other, backend.prepare(changed, "fp32", tmp_path), 7) < 1e-5
    assert set(kept) < set(tmp_path.iterdir())

    def refuse(*given, **more):
        raise AssertionError("it compiles again")

    monkeypatch.setattr(compiles, refuse)
    assert differs(module, backend.prepare(small()[1], "fp32", tmp_path), 5) < 1e-5


def test_a_graph_of_other_weights_or_options_has_another_name():
    pair = small()[1].pair
    assert content_digest(pair, "bf16") == content_digest(small()[1].pair, "bf16")
    assert content_digest(pair, "bf16") != content_digest(pair, "fp32")
    assert content_digest(pair, "ab", "c") != content_digest(pair, "a", "bc")
    assert content_digest(pair, "bf16") != content_digest(small(seed=1)[1].pair, "bf16")


@WITH_OPENVINO
def test_openvino_answers_many_requests_at_once_and_several_threads():
    module, program = small()
    prepared = OpenVino().prepare(program, "fp32")
    users = torch.randn(3, 4)
    together = prepared.request({"user": users}, 3)
    for row in range(3):
        alone = prepared.request({"user": users[row : row + 1]}, 1)
        assert all(np.array_equal(together[name][row : row + 1], value) for name, value in alone.items())
    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(lambda rows: differs(module, prepared, rows), range(1, 40))) < 1e-5


@WITH_OPENVINO
def test_what_openvino_refuses_is_told(monkeypatch):
    def refuse(*given, **more):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("openvino.convert_model", refuse)
    with pytest.raises(InputError, match="no such operator"):
        OpenVino().prepare(small()[1], "fp32")


@WITH_OPENVINO
def test_openvino_refuses_int8():
    with pytest.raises(InputError, match="int8"):
        OpenVino().prepare(small()[1], "int8")


def test_without_openvino_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match="not installed"):
        OpenVino().prepare(small()[1], "fp32")
