"""Vectors on their way to a model: zeros where unknown, repeated for candidates where of the request."""

import msgspec
import numpy as np
import pytest

from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import InputError
from tests.training.vectors import VECTOR, WIDTH, draw, plan_with_vector


def test_unknown_vectors_are_zeros_and_the_block_keeps_its_own():
    block = draw(5)
    before = block.vectors["embedding"].copy()
    features = EmbeddingCollection.Config().build(plan_with_vector())(block)
    assert features["embedding"].shape == (5, WIDTH)
    assert features["embedding"][3].tolist() == [0.0] * WIDTH
    np.testing.assert_array_equal(features["embedding"][:3], before[:3])
    np.testing.assert_array_equal(block.vectors["embedding"], before)


def test_the_inputs_tell_width_and_stage():
    inputs = EmbeddingCollection.Config().build(plan_with_vector()).inputs
    assert [(item.name, item.width, item.stage) for item in inputs.vectors] == [("embedding", WIDTH, "item")]
    assert inputs.stages["embedding"] == "item"
    assert inputs.example(3)["embedding"].shape == (3, WIDTH)


def test_a_request_s_vector_stands_for_every_candidate():
    plan = plan_with_vector()
    of_request = msgspec.structs.replace(VECTOR, stage="request")
    plan = msgspec.structs.replace(plan, features=[*plan.features[:-1], of_request])
    block = draw(4)
    block.vectors["embedding"] = block.vectors["embedding"][:1]
    features = EmbeddingCollection.Config().build(plan)(block)
    assert features["embedding"].shape == (4, WIDTH)
    assert (features["embedding"] == features["embedding"][0]).all()


def test_a_block_without_the_vector_is_told():
    block = draw(2)
    del block.vectors["embedding"]
    with pytest.raises(InputError, match="lacks the feature 'embedding'"):
        EmbeddingCollection.Config().build(plan_with_vector())(block)
