"""What is left per candidate, lowered to a pair program: the engine's share of every model, and that it is right."""

import numpy as np
import pytest
import torch

from bowerbird.compiler.backends.contract import Kept, as_tensor
from bowerbird.compiler.backends.native import ROWS_PER_THREAD, Native
from bowerbird.compiler.backends.native_rows import rows_runner
from bowerbird.compiler.pair.lower import lower_pair
from bowerbird.compiler.staging import TOLERANCE
from bowerbird.errors import InputError
from bowerbird.kernels.pair_rows import StoredRows
from bowerbird.kernels.pair_twin import PairTwin
from bowerbird.models import MODELS
from tests.compiler import cases, modules

ROWS = (1, 3, 67, 5000)
SHARES = {
    "lr": 0.0, "fm": 0.0, "widedeep": 1.0, "deepfm": 1.0, "dcnv2": 1.0, "autoint": 1.0, "finalmlp": 1.0,
    "finalnet": 1.0, "din": 1.0, "bst": 1.0, "tabm": 1.0, "esmm": 0.999, "mmoe": 1.0, "ple": 1.0, "two_tower": 1.0,
    "Residual": 1.0, "Gated": 1.0, "FlattenedAttention": 1.0, "SharedTower": 1.0, "OneSided": 1.0,
    "SelfAttention": 1.0, "Library": 1.0, "Masks": 0.5, "Fields": 1.0, "Experts": 0.95,
}  # fmt: skip
"""The least share of a candidate's operations that the engine computes, of all models of the zoo and all odd ones."""
SERVED = [name for name, share in SHARES.items() if share >= 0.5]


def compiled(name):
    case = cases.case(name)
    return case.module, case.features, case.compilation


@pytest.fixture(scope="module", params=SHARES)
def case(request):
    return request.param, *compiled(request.param)


def differs(answers, module, given, rows):
    """Return the largest difference from eager, relative beyond 1."""
    with torch.inference_mode():
        expected = module(modules.expanded(given, rows))
    return max(
        float(((answers[task] - value).abs() / value.abs().clamp(min=1)).nan_to_num(torch.inf).max())
        for task, value in expected.items()
    )


def test_all_models_have_a_share():
    assert set(SHARES) == {*MODELS, *modules.ODD}


def test_the_engine_computes_its_share(case):
    name, _, _, compilation = case
    share = lower_pair(compilation.program.pair).native_share
    assert SHARES[name] <= share + 1e-6 and share <= SHARES[name] + 0.25


@pytest.mark.parametrize("make", [Native(), Native(make=PairTwin)], ids=["native", "twin"])
def test_pair_programs_answer_as_eager(case, make):
    name, module, features, compilation = case
    if name not in SERVED:
        with pytest.raises(InputError, match="another backend"):
            make.prepare(compilation.program, "fp32")
        return
    prepared = make.prepare(compilation.program, "fp32")
    for rows in ROWS if make.make is not PairTwin else ROWS[:3]:
        given = features(rows, rows)
        assert differs(prepared(given, rows), module, given, rows) <= TOLERANCE


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_fewer_bits_stay_near(case, precision):
    name, module, features, compilation = case
    if name in SERVED:
        given = features(64, 5)
        prepared = Native().prepare(compilation.program, precision)
        assert differs(prepared(given, 64), module, given, 64) < 0.2


def test_as_many_threads_split_a_request_as_pytorch_may_use(case, monkeypatch):
    name, _, features, compilation = case
    if name not in SERVED:
        pytest.skip("the engine does not serve it")
    rows = 3 * ROWS_PER_THREAD + 5
    given = features(rows, 3)
    alone = Native().prepare(compilation.program, "fp32")(given, rows)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = Native().prepare(compilation.program, "fp32")(given, rows)
    assert all(torch.equal(together[each], alone[each]) for each in alone)


def test_items_are_taken_from_where_they_are_kept(case):
    name, module, features, compilation = case
    if name not in SERVED:
        pytest.skip("the engine does not serve it")
    prepared, rows = Native().prepare(compilation.program, "fp32"), 40
    given = features(rows, 3)
    order = np.random.default_rng(0).permutation(rows)
    places = np.argsort(order)

    def kept(value):
        stored = StoredRows.pack(value.reshape(len(value), -1).numpy()[order], "fp32")
        return Kept(stored, places, tuple(value.shape[1:]))

    made = {each: as_tensor(value) for each, value in prepared.item(given, rows).items()}
    items = {each: kept(value) if value.dtype == torch.float32 else value for each, value in made.items()}
    answers = prepared.of_kept({**given, **prepared.request(given, 1), **items}, rows)
    tensors = {name: as_tensor(each) for name, each in answers.items()}
    assert differs(tensors, module, given, rows) <= TOLERANCE


def test_what_is_small_before_the_engine_is_native_too(case):
    before = lower_pair(case[-1].program.pair).before
    assert not before.outputs or rows_runner(before)[1] == 1


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


def test_rows_of_many_requests_are_answered_as_each_alone(case):
    name, _, features, compilation = case
    if name not in SERVED:
        pytest.skip("the engine does not serve it")
    prepared, rows = Native().prepare(compilation.program, "fp32"), 1030
    read = lower_pair(compilation.program.pair).request.values()
    if any(each.length and each.constant is None for each in read):
        assert prepared.rows is None
        return
    assert prepared.rows is not None
    given = features(rows, 7)
    more = features(rows, 8)
    given |= {each: torch.cat([value, more[each]]) for each, value in given.items() if len(value) == 1}
    requests = torch.arange(rows) % 2
    given = {each: value[requests] if len(value) == 2 else value for each, value in given.items()}
    made = {**given, **prepared.request(given, rows), **prepared.item(given, rows)}
    found = prepared.rows(made, rows)
    for row in (0, 1, 1029):
        one = {each: value if len(value) == 1 else value[row : row + 1] for each, value in given.items()}
        for task, value in prepared(one, 1).items():
            assert torch.allclose(found[task][row : row + 1], value, atol=1e-5, rtol=1e-5)
