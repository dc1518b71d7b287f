"""A staged model's answers do not depend on the company of a candidate, to the last bit."""

from dataclasses import replace
from importlib.util import find_spec

import msgspec
import numpy as np
import pytest

from bowerbird.bundles.bundle import verify_golden
from bowerbird.bundles.choose_way import WaySetting, load_served, request_block
from bowerbird.bundles.scorer import BlendedModel
from bowerbird.bundles.way_results import WayResult
from bowerbird.bundles.ways import known_ways, served_by, shifted
from bowerbird.errors import InputError, MissingExtraError
from bowerbird.plan.block_rows import take_each
from bowerbird.plan.columns import ColumnLayout, Columns
from tests.server.tiny import allowed


@pytest.mark.parametrize("way", ["native.fp32", "native.bf16", "native.int8"])
def test_the_same_bits_in_any_company(make_bundle, tmp_path, way):
    bundle = make_bundle(tmp_path / "home" / "1")
    plain = bundle.load_model()
    once = {feature.name for feature in bundle.plan.features if feature.stage == "request"}
    block = request_block(bundle, 9)
    expected = served_by(plain, known_ways()[way]).logits(block)
    random = np.random.default_rng(0)
    growing = served_by(plain, known_ways()[way])
    for size in (1, 2, 3, 1, 5, 9):
        chosen = random.permutation(9)[:size]
        part = take_each(block, lambda name, rows, chosen=chosen: np.zeros(1, np.int64) if name in once else chosen)
        for task, values in growing.logits(part).items():
            assert np.array_equal(values, expected[task][chosen]), (task, size)


@pytest.mark.parametrize("way", sorted(known_ways()))
def test_columns_side_by_side_are_the_same_bits(make_bundle, tmp_path, way):
    bundle = make_bundle(tmp_path / "home" / "1")
    try:
        model = served_by(bundle.load_model(), known_ways()[way])
    except MissingExtraError as absent:
        pytest.skip(str(absent))
    block = request_block(bundle, 9)
    expected = model.logits(block)
    beside = replace(block, categories=_beside(block.categories), numbers=_beside(block.numbers))
    for _ in range(2):  # the second time its items are known
        for task, values in model.logits(beside).items():
            assert np.array_equal(values, expected[task]), task


def _beside(columns):
    """Return columns of one length in one matrix, those of another in another."""
    lengths = sorted({len(column) for column in columns.values()})
    names = [[name for name, column in columns.items() if len(column) == length] for length in lengths]
    return Columns(ColumnLayout(names), [np.stack([columns[name] for name in each]) for each in names])


def test_a_block_without_a_feature_is_refused(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "home" / "1")
    model, block = bundle.load_model(), request_block(bundle, 3)
    for kind in ("categories", "numbers"):
        columns = dict(getattr(block, kind))
        name, _ = columns.popitem()
        for fewer in (columns, _beside(columns)):
            with pytest.raises(InputError, match=name):
                model.logits(replace(block, **{kind: fewer}))


def test_a_way_adds_its_shift_to_the_network_s_logits(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "home" / "1")
    plain, way, block = bundle.load_model(), known_ways()["native.bf16"], request_block(bundle, 5)
    tasks = [task.name for task in bundle.manifest.tasks]
    before = served_by(plain, way).logits(block)
    after = served_by(plain, shifted(way, plain, {tasks[0]: 0.25})).logits(block)
    for task in tasks:
        assert np.array_equal(after[task], before[task] + np.float32(0.25 if task == tasks[0] else 0.0))
    blend = BlendedModel(plain, plain)
    assert shifted(way, blend, {tasks[0]: 0.25}).shifts == {tasks[0]: 0.5}


def test_a_bundle_s_way_has_the_shifts_that_its_gates_found(make_bundle, tmp_path):
    found = make_bundle(tmp_path / "home" / "1")
    result = WayResult("native.bf16", True, [], shifts={"click": -0.004})
    bundle = replace(found, manifest=msgspec.structs.replace(found.manifest, ways=[result]))
    assert bundle.way("native.bf16").shifts == {"click": -0.004}
    assert bundle.load_model("native.bf16").way.shifts == {"click": -0.004}
    assert not bundle.load_model().way.shifts


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_serves_what_its_gates_allow_and_converts_it_once(make_bundle, tmp_path, monkeypatch):
    found = make_bundle(tmp_path / "home" / "1")
    bundle = replace(found, manifest=msgspec.structs.replace(found.manifest, ways=[allowed("openvino.fp32")]))
    setting = WaySetting(tmp_path / "ways", "openvino.fp32")
    assert load_served(bundle, setting).choice.way == "openvino.fp32"

    def refuse(*given, **more):
        raise AssertionError("it is converted again")

    monkeypatch.setattr("openvino.convert_model", refuse)
    again = verify_golden(bundle, load_served(bundle, setting).scorer, "openvino.fp32")
    block = request_block(bundle, 9)
    plain = bundle.load_scorer().score(block)
    for task, scores in again.score(block).items():
        assert np.allclose(scores, plain[task], atol=1e-6)
