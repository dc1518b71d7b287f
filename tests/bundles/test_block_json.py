import msgspec
import numpy as np

from bowerbird.bundles.block_json import BlockJson, block_from_json, block_to_json
from bowerbird.plan.block import FeatureBlock
from tests.training.vectors import draw


def through_json(block):
    return block_from_json(msgspec.json.decode(msgspec.json.encode(block_to_json(block)), type=BlockJson))


def test_vectors_survive_json_bit_for_bit():
    block = draw(5)
    again = through_json(block)
    np.testing.assert_array_equal(again.vectors["embedding"], block.vectors["embedding"])
    assert again.vectors["embedding"].dtype == np.float32


def test_a_column_of_unknown_vectors_keeps_its_width():
    block = FeatureBlock(vectors={"embedding": np.full((2, 7), np.nan, np.float32)})
    again = through_json(block).vectors["embedding"]
    assert again.shape == (2, 7) and np.isnan(again).all()


def test_blocks_of_earlier_bundles_have_no_vectors():
    data = msgspec.json.decode(b'{"categories": {}, "numbers": {"a": [1.5]}, "sequences": {}}', type=BlockJson)
    assert block_from_json(data).vectors == {}
