"""What is left per candidate, lowered to a pair program, answers as the module does."""

import pytest
import torch

from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.pair.lower import lower_pair
from bowerbird.compiler.staging import compile_module
from bowerbird.errors import InputError
from tests.compiler import modules, zoo
from tests.compiler.pair_interpreter import PairInterpreter

WHOLLY = ("widedeep", "dcnv2", "din", "esmm", "mmoe", "ple", "two_tower")
PARTLY = ("deepfm", "finalnet")
ODD = ("Residual", "Gated", "FlattenedAttention", "SharedTower", "OneSided", "SelfAttention", "Fields", "Experts")


def compiled(name):
    if name in modules.ODD:
        torch.manual_seed(0)
        module = modules.ODD[name]().eval()
        return module, modules.example, compile_module(module, modules.expanded(modules.example(4), 4), modules.STAGES)
    module = zoo.model(name)

    def features(rows, seed):
        return zoo.request_features(module, rows, seed)

    return module, features, compile_module(module, modules.expanded(features(4, 0), 4), module.inputs.stages)


@pytest.mark.parametrize("name", [*WHOLLY, *PARTLY, *ODD])
def test_pair_programs_answer_as_eager(name):
    module, features, compilation = compiled(name)
    prepared = Native(make=PairInterpreter).prepare(compilation.program, "fp32")
    for rows in (1, 4, 300):
        given = features(rows, rows)
        with torch.inference_mode():
            expected = module(modules.expanded(given, rows))
        for task, answer in prepared(given, rows).items():
            assert torch.allclose(answer, expected[task], atol=1e-5, rtol=1e-5)
    share = lower_pair(compilation.program.pair).native_share
    assert share > (0.95 if name in WHOLLY else 0.5)


def test_target_attention_is_found_whoever_wrote_it():
    for name, softmax in (("din", False), ("FlattenedAttention", True)):
        lowering = lower_pair(compiled(name)[2].program.pair)
        found = [step for step in lowering.spec["steps"] if step["op"] == "target_attention"]
        assert [step["softmax"] for step in found] == [softmax]
        assert found[0]["activation"] == {"op": "relu"} and found[0]["mask"]


def test_layers_take_their_additions_and_activations_with_them():
    steps = lower_pair(compiled("dcnv2")[2].program.pair).spec["steps"]
    first = next(step for step in steps if step["op"] == "linear" and len(step.get("add", ())) == 2)
    assert {name.split(".")[0] for name in first["add"]} == {"request", "item"}
    assert not [step for step in steps if step["op"] == "relu"]


def test_what_has_no_steps_is_left_to_other_backends():
    for name in ("Masks", "fm"):
        with pytest.raises(InputError, match="another backend"):
            Native(make=PairInterpreter).prepare(compiled(name)[2].program, "fp32")
