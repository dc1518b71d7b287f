"""A staged model's answers do not depend on the company of a candidate, to the last bit."""

import numpy as np
import pytest

from bowerbird.bundles.choose_way import request_block
from bowerbird.bundles.ways import known_ways, served_by
from bowerbird.plan.block_rows import take_each


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
