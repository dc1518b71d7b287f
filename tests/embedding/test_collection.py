import numpy as np
import pytest
import torch

from bowerbird.embedding import EmbeddingCollection
from bowerbird.embedding.deferred import DeferredFeatures
from bowerbird.errors import CorruptionError, InputError
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.block_rows import take_rows
from tests.training.synthetic import World, keys, synthetic_plan


def collection(**options):
    torch.manual_seed(0)
    built = EmbeddingCollection.Config(**{"minimum_count": 1, **options}).build(synthetic_plan())
    everything = keys(np.arange(100))
    items = keys(np.arange(40) + 10_000)
    built.admit({"user": (everything, np.ones(100, np.int64)), "item": (items, np.ones(40, np.int64))})
    return built


def ragged(*rows):
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    flat = [value for row in rows for value in row]
    values = np.array(flat, np.uint64)
    numbers = np.arange(len(flat), dtype=np.float32)
    return Ragged(offsets, {"item": values, "topic": values, "seconds": numbers}, numbers * 10)


def test_forward_gives_the_declared_tensors():
    block, *_ = World().draw(5)
    features = collection()(block)
    inputs = collection().inputs
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        name: tuple(value.shape) for name, value in inputs.example(5).items()
    }
    assert set(inputs.stages) == set(features)
    assert features["history.mask"].dtype == torch.bool


def test_sequences_are_newest_first_then_padding():
    block, *_ = World().draw(3)
    events = keys(np.arange(9) + 10_000)
    block.sequences["history"] = ragged(events[:2], [], events)
    tables = collection()
    rows = tables.encode(block).sequences["history"]
    assert rows.mask.sum(axis=1).tolist() == [2, 0, 6]
    expected = tables.indexes["item"].find(events)
    assert rows.categories["history.item"][0].tolist() == [expected[1], expected[0], 0, 0, 0, 0]
    assert rows.categories["history.item"][2].tolist() == expected[8:2:-1].tolist()
    assert rows.age[0].tolist() == [10.0, 0, 0, 0, 0, 0]
    assert rows.numbers["history.seconds"][2].tolist() == [10, 9, 8, 7, 6, 5]


def test_request_columns_of_one_row_are_expanded():
    block, *_ = World().draw(6)
    one = take_rows(block, np.zeros(6, np.int64))
    mixed = FeatureBlock(
        {**block.categories, "user": block.categories["user"][:1]},
        {**block.numbers, "age": block.numbers["age"][:1]},
        {name: take_rows(block, np.zeros(1, np.int64)).sequences[name] for name in block.sequences},
    )
    repeated = FeatureBlock(
        {**block.categories, "user": one.categories["user"]},
        {**block.numbers, "age": one.numbers["age"]},
        one.sequences,
    )
    tables = collection()
    left, right = tables(mixed), tables(repeated)
    for name in right:
        assert left[name].shape == right[name].shape
        assert torch.equal(left[name].nan_to_num(-1), right[name].nan_to_num(-1))


@pytest.mark.parametrize("tables", [{}, {"item": {}}])
def test_features_that_wait_until_they_are_read_are_those_of_evaluation(tables):
    block, *_ = World().draw(30)
    trained = collection(tables=tables).train()
    results = []
    for waits in (True, False):
        features = trained.train(waits)(block)
        assert isinstance(features, DeferredFeatures) == waits
        assert not waits or ("history.item" in features.unread) == ("item" not in tables)
        assert not waits or {"history.topic", "user"} <= features.unread.keys()
        trained.zero_grad()
        sum(value.square().sum() for value in features.values() if value.requires_grad).backward()
        results.append((dict(features), [each.grad for each in trained.exact_parameters]))
        trained.forget_gradients()
    (waited, found), (given, expected) = results
    assert waited.keys() == given.keys()
    assert all(torch.equal(value.nan_to_num(-1), given[name].nan_to_num(-1)) for name, value in waited.items())
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, expected, strict=True))


def test_without_gradients_nothing_waits():
    block, *_ = World().draw(3)
    with torch.no_grad():
        assert not isinstance(collection().train()(block), DeferredFeatures)


def test_unseen_and_missing_have_rows_of_their_own():
    block, *_ = World().draw(2)
    block.categories["user"] = np.array([0, 123456789], np.uint64)
    tables = collection()
    features = tables(block)
    assert torch.equal(features["user"], tables.table("user")[:2])


def test_export_and_import_round_trip_without_sharing():
    first = collection()
    second = EmbeddingCollection.Config(minimum_count=1).build(synthetic_plan())
    second.import_arrays({name: value.copy() for name, value in first.export_arrays().items()})
    block, *_ = World().draw(4)
    for name, value in first(block).items():
        assert torch.equal(value.nan_to_num(0), second(block)[name].nan_to_num(0))


def test_import_refuses_what_does_not_fit():
    arrays = collection().export_arrays()
    target = EmbeddingCollection.Config().build(synthetic_plan())
    with pytest.raises(CorruptionError, match="item"):
        target.import_arrays({**arrays, "item.rows": arrays["item.rows"][:-1]})
    with pytest.raises(CorruptionError, match="hour"):
        target.import_arrays({name: value for name, value in arrays.items() if not name.startswith("hour")})


def test_a_block_of_another_plan_is_refused():
    block, *_ = World().draw(2)
    del block.numbers["rate"]
    with pytest.raises(InputError, match="rate"):
        collection().encode(block)


def test_an_unknown_vocabulary_is_refused():
    with pytest.raises(InputError, match="itm"):
        EmbeddingCollection.Config(dimensions={"itm": 4}).build(synthetic_plan())


def test_growing_keeps_trained_rows():
    tables = collection()
    before = tables.table("item").detach().clone()
    fresh = keys(np.array([77_777]))
    assert tables.admit({"item": (fresh, np.array([3]))}) == {"item": 1}
    assert torch.equal(tables.table("item")[:-1], before)
    assert tables.indexes["item"].find(fresh).tolist() == [len(before)]
