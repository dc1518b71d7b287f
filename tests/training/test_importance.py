import numpy as np
import pytest
import torch

from bowerbird.bundles.calibrate import Identity, PlattByField
from bowerbird.plan.block import FeatureBlock
from bowerbird.training.batches.dataset import SampleRows
from bowerbird.training.batches.drawn import draw_samples
from bowerbird.training.quality.importance import BlockColumns, EncodedColumns, permutation_importance, shuffled_within
from tests.training.synthetic import World, keys

DAY = 86_400_000_000


class Planted:
    """Reads the number ``told`` and category ``kind``; not ``noise``."""

    def logits(self, block):
        shift = np.where(block.categories["kind"] == 1, 0.5, -0.5)
        return {"click": (2 * block.numbers["told"] + shift).astype(np.float32)}


@pytest.fixture(scope="module")
def planted():
    random = np.random.default_rng(3)
    rows = 4000
    block = FeatureBlock(
        {"kind": random.integers(0, 2, rows).astype(np.uint64)},
        {name: random.normal(size=rows).astype(np.float32) for name in ("told", "noise")},
    )
    logit = Planted().logits(block)["click"]
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    label[::50] = np.nan
    user = random.integers(0, 200, rows).astype(np.uint64)
    weight = np.ones(rows, np.float32)
    return SampleRows(block, {"click": label}, weight, user, user, np.repeat([0, DAY], rows // 2))


def test_what_the_model_reads_is_found_and_what_it_does_not_is_worth_exactly_nothing(planted):
    columns = BlockColumns(Planted(), planted.block, len(planted))
    found = permutation_importance(columns, planted, planted.weight, {"click": Identity()})["click"]
    assert [one.feature for one in found] == ["told", "kind", "noise"]
    told, kind, noise = found
    assert told.auc.low > 0.2 and told.log_loss.low > 0.5
    assert kind.auc.low > 0 and kind.log_loss.low > 0.01
    assert (noise.auc.estimate, noise.log_loss.estimate) == (0, 0)


def test_a_feature_that_the_model_reads_in_vain_is_not_told_from_nothing(planted):
    block = FeatureBlock(
        planted.block.categories, {"told": planted.block.numbers["noise"], "noise": planted.block.numbers["told"]}
    )
    found = permutation_importance(
        BlockColumns(Planted(), block, len(planted)), planted, planted.weight, {"click": Identity()}
    )["click"]
    told = next(one for one in found if one.feature == "told")
    assert told.auc.low < 0 < told.auc.high


def test_the_same_seed_finds_the_same(planted):
    columns = BlockColumns(Planted(), planted.block, len(planted))
    runs = [
        permutation_importance(columns, planted, planted.weight, {"click": Identity()}, repeats=2, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_a_calibration_s_field_is_dealt_out_for_it_too(planted):
    calibration = PlattByField("kind", 1.0, 0.0, [0, 1], [-2.0, 2.0])
    columns = BlockColumns(Planted(), planted.block, len(planted))
    plain, fielded = (
        permutation_importance(columns, planted, planted.weight, {"click": one})["click"]
        for one in (Identity(), calibration)
    )
    loss = [next(one for one in found if one.feature == "kind").log_loss.estimate for found in (plain, fielded)]
    assert loss[1] > 2 * loss[0]


def test_rows_are_dealt_out_within_their_day():
    days = np.array([3, 1, 3, 1, 1, 2])
    order = shuffled_within(days, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(6))
    assert np.array_equal(days[order], days)
    many = np.repeat([0, 1], 500)
    assert (shuffled_within(many, np.random.default_rng(0)) != np.arange(1000)).mean() > 0.9


def test_a_network_s_encoded_columns_are_its_blocks(din_run, workspace):
    from bowerbird.training.batches.dataset import SampleFolder
    from bowerbird.training.trained import load_trained

    samples = SampleFolder(workspace / "samples" / "default")
    trained = load_trained(din_run.folder, samples.plan, din_run.record.settings)
    block, *_ = World(4).draw(300)
    blocks, encoded = BlockColumns(trained, block, 300), EncodedColumns(trained.network, block)
    assert set(blocks.features) == set(encoded.features) >= {"history", "user", "matches"}
    order = np.random.default_rng(0).permutation(300)
    torch.set_num_threads(1)
    for feature in ("", "history", "item", "matches"):
        one = blocks.logits(feature, order if feature else None)
        other = encoded.logits(feature, order if feature else None)
        assert np.allclose(one["click"], other["click"], atol=1e-5)
    assert not np.allclose(blocks.logits("history", order)["click"], blocks.logits()["click"], atol=1e-3)


def test_drawn_samples_stand_as_they_were_read():
    first, labels, user, item = World(1).draw(40)
    parts = []
    for start in (0, 1000):
        time = np.arange(start, start + 40)
        parts.append(SampleRows(first, labels, np.ones(40, np.float32), user, item, time))
    drawn = draw_samples(parts, 50, seed=1)
    assert len(drawn) == 50 and np.all(np.diff(drawn.time) > 0)
    assert 10 < (drawn.time < 1000).sum() < 40
    place = drawn.time % 1000
    assert np.array_equal(drawn.block.categories["item"], first.categories["item"][place])
    for row in (0, 20, 49):
        here, there = drawn.block.sequences["history"], first.sequences["history"]
        ours = here.fields["item"][here.offsets[row] : here.offsets[row + 1]]
        theirs = there.fields["item"][there.offsets[place[row]] : there.offsets[place[row] + 1]]
        assert np.array_equal(ours, theirs)
    assert len(draw_samples(parts, 500, seed=1)) == 80
    assert len(np.unique(keys(np.arange(5)))) == 5
