"""However target attention and mixtures are written: the engine computes them whole, and answers as the module."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bowerbird.compiler.backends.native import Native
from bowerbird.compiler.pair.lower import lower_pair
from bowerbird.compiler.staging import compile_module
from bowerbird.kernels.pair_twin import PairTwin
from tests.compiler import spellings

STAGES = {"user": "request", "item": "item", "history": "request", "mask": "request"}
EXAMPLES = settings(max_examples=3, suppress_health_check=list(HealthCheck))
SIZES = {"width": st.integers(2, 6), "length": st.integers(2, 9), "seed": st.integers(0, 2**31)}


def features_of(rows, width, length, seen, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"user": (1, width), "item": (rows, width), "history": (1, length, width)}
    features = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**features, "mask": torch.arange(length)[None] < seen}


def check(module, width, length, seed):
    """Compare native engine and twin with the module: full, short and empty histories, one candidate and many."""
    module.eval()

    def whole(features, rows):
        return {name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}

    program = compile_module(module, whole(features_of(4, width, length, 1, 0), 4), STAGES).program
    assert lower_pair(program.pair).native_share > 0.99
    for backend in (Native(), Native(make=PairTwin)):
        prepared = backend.prepare(program, "fp32")
        for rows, seen in ((1, length), (5, length - 1), (70, 0)):
            features = features_of(rows, width, length, seen, seed + rows)
            with torch.inference_mode():
                expected = module(whole(features, rows))
            for task, answer in prepared(features, rows).items():
                assert torch.allclose(answer, expected[task], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spelling", spellings.SPELLINGS)
@EXAMPLES
@given(**SIZES, other_values=st.booleans())
def test_target_attention(spelling, width, length, seed, other_values):
    torch.manual_seed(seed)
    check(spellings.Spelled(spelling, width, other_values), width, length, seed)


@pytest.mark.parametrize("softmax", [True, False])
@EXAMPLES
@given(**SIZES, heads=st.integers(1, 3))
def test_dot_products(softmax, width, length, seed, heads):
    torch.manual_seed(seed)
    heads = heads if softmax else 1
    check(spellings.DotProduct(width, heads, softmax), width, length, seed)


@pytest.mark.parametrize("mixture", spellings.MIXTURES)
@EXAMPLES
@given(**SIZES, experts=st.integers(2, 4))
def test_mixtures_of_experts(mixture, width, length, seed, experts):
    torch.manual_seed(seed)
    check(spellings.Mixed(mixture, width, experts), width, length, seed)
