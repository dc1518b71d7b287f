"""The benchmark's splits by hand are the models: otherwise the peer that they are would be no peer."""

import pytest
import torch

from bench.compiler.answers import worst
from bench.compiler.models import cases, expanded
from bench.compiler.split import split


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_split_by_hand_is_the_model(case):
    parts = split(case)
    for rows in (1, 7):
        features = case.shape.features(rows, 5)
        with torch.inference_mode():
            request = parts.request(*(features[name] for name in parts.reads))
            answers = parts.pair(*request, *parts.item(features["item"]))
            expected = case.module(expanded(features, rows))
        assert worst(dict(zip(expected, answers, strict=True)), expected) <= 1e-5
