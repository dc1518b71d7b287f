"""The behaviour sequence transformer against PyTorch's own."""

import pytest
import torch
from torch import nn

from bowerbird.errors import InputError
from bowerbird.models.behaviour import BehaviourTransformer, TransformerLayer
from bowerbird.models.sequences import MeanHistory
from tests.models.built import built


def test_a_transformer_layer_attends_as_torchs():
    torch.manual_seed(1)
    layer = TransformerLayer(8, 2, 0.0).eval()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    places, mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [0, 0, 0, 0, 1]]).bool()
    parts = [layer.to_query, layer.to_key, layer.to_value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(layer.to_output.state_dict())
        mixed, _ = theirs(places, places, places, key_padding_mask=~mask, need_weights=False)
        assert torch.allclose(layer.attend(places, mask, places), mixed, atol=1e-6)
        hidden = layer.norms[0](places + mixed)
        expected = layer.norms[1](hidden + layer.second(nn.functional.leaky_relu(layer.first(hidden))))
        assert torch.allclose(layer(places, mask, places), expected, atol=1e-6)
        assert torch.allclose(layer(places, mask, places[:, -1:]), expected[:, -1:], atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_candidates_place_is_the_same_whatever_else_is_answered(layers):
    _, model = built("bst", layers=layers)
    transformer = next(module for module in model.flat.histories if isinstance(module, BehaviourTransformer))
    features = model.inputs.example(20, torch.Generator().manual_seed(3))
    with torch.inference_mode():
        target = transformer(features)
        transformer.pooling = "mean"
        mean = transformer(features)
    empty = ~features["history.mask"].any(dim=1)
    assert empty.any() and not empty.all()
    assert torch.allclose(target[empty], mean[empty], atol=1e-6)
    assert not torch.allclose(target[~empty], mean[~empty], atol=1e-3)


def test_only_sequences_that_meet_the_candidate_are_transformed():
    _, model = built("bst")
    assert [type(module) for module in model.flat.histories] == [BehaviourTransformer, MeanHistory]
    features = model.inputs.example(10, torch.Generator().manual_seed(3))
    moved = features | {"item": features["item"] + 1}
    changed = (model.flat.histories[0](features) != model.flat.histories[0](moved)).any(dim=1)
    assert changed.all()


def test_the_order_of_events_matters():
    _, model = built("bst")
    features = model.inputs.example(10, torch.Generator().manual_seed(3))
    features["history.mask"][:] = True
    turned = {key: value.flip(1) if key.startswith("history.") else value for key, value in features.items()}
    assert not torch.allclose(model.flat.histories[0](features), model.flat.histories[0](turned), atol=1e-4)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="3 heads do not divide a width of 64"):
        built("bst", heads=3)
