"""Vectors made elsewhere: every model reads them, exported as in PyTorch."""

import numpy as np
import pytest
import torch

from bowerbird.embedding import EmbeddingCollection
from bowerbird.models import MODELS, Task
from bowerbird.models.tree_columns import TreeColumns
from bowerbird.models.vectors import VectorEmbedding
from tests.models.built import built
from tests.training.vectors import WIDTH, draw, plan_of_vector_alone, plan_with_vector, vectors


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_vector_may_be_all_that_is_known_of_an_item(name):
    collection, model = built(name, plan_of_vector_alone(), (Task("click"),))
    block = draw(4)
    with torch.inference_mode():
        logits = model(collection(block))["click"]
    assert torch.isfinite(logits).all() and len(set(logits.tolist())) == 4


def test_the_length_of_a_vector_does_not_matter_and_an_unknown_one_has_a_field_of_its_own():
    inputs = EmbeddingCollection.Config().build(plan_with_vector()).inputs
    module = VectorEmbedding(inputs, 3)
    torch.nn.init.ones_(module.unknown)
    given = torch.from_numpy(np.nan_to_num(vectors(4)))
    fields = module({"embedding": given})
    assert fields.shape == (4, 1, 3)
    assert torch.allclose(fields, module({"embedding": given * 1e-3}), atol=1e-5)
    assert fields[3].tolist() == [[1.0, 1.0, 1.0]]


def test_trees_have_a_column_for_each_component():
    columns = TreeColumns(plan_with_vector(), 1)
    block = draw(4)
    components = [f"embedding.{at}" for at in range(WIDTH)]
    first = columns.names.index(components[0])
    assert columns.names[first : first + WIDTH] == components
    matrix = columns.transform(block)
    assert matrix.shape == (4, len(columns.names))
    np.testing.assert_array_equal(matrix[:, first : first + WIDTH], block.vectors["embedding"].astype(np.float64))
